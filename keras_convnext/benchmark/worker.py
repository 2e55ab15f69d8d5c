"""A process that holds one network and times its calls on request.

Every candidate runs in its own process, so the threads, memory and settings of another do not
disturb it, and its memory can be measured. Both ends exchange JSON documents, one a line.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

from keras_convnext.benchmark.candidates import Candidate
from keras_convnext.errors import UserError

MEBIBYTE = 2**20


class Worker:
    """The caller's end: a context manager that starts the process and ends it.

    Args:
        candidate: The network that the process holds.
        batch_size: Images a call.
        image_size: Height and width of the images in pixels.
        tasks: The tasks to time: `"forward"`, `"train"` or both.
    """

    def __init__(
        self, candidate: Candidate, batch_size: int, image_size: int, tasks: Sequence[str]
    ) -> None:
        self.candidate = candidate
        self._settings = {
            "candidate": dataclasses.asdict(candidate),
            "batch_size": batch_size,
            "image_size": image_size,
            "tasks": list(tasks),
        }

    def __enter__(self) -> "Worker":
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "KERAS_BACKEND": self.candidate.backend},
            text=True,
        )
        self._questions = cast(IO[str], self._process.stdin)
        self._answers = cast(IO[str], self._process.stdout)
        return self

    def __exit__(self, *_) -> None:
        self._process.kill()
        self._process.wait()
        self._questions.close()
        self._answers.close()
        self._errors.close()

    def prepare(self) -> dict:
        """Builds the network and runs its first calls.

        Returns:
            `parameters`, `build_seconds`, and `first_call_seconds` of each task.

        Raises:
            UserError: If there is no such network.
            RuntimeError: If the process failed.
        """
        return self._ask(self._settings)

    def time(self, task: str) -> float:
        """Returns the seconds of one call of a task, `"forward"` or `"train"`."""
        return self._ask({"time": task})

    def train_memory(self) -> float | None:
        """Returns the peak memory of a train step in MiB.

        On a CPU it is the growth of the process since before the network was built; on a GPU, the
        memory that the framework allocated there. `None` if it cannot be measured.
        """
        return self._ask({"memory": "train"})

    def _ask(self, question):
        try:
            self._questions.write(f"{json.dumps(question)}\n")
            self._questions.flush()
            answer = self._answers.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._process.wait()
            self._errors.seek(0)
            raise RuntimeError(
                f"The process of {self.candidate.label} failed:\n"
                f"{self._errors.read().decode(errors='replace')}"
            )
        value = json.loads(answer)
        if isinstance(value, dict) and "refused" in value:
            raise UserError(value["refused"])
        return value


def _answer_all(questions, answer) -> None:
    """Runs in the process: builds the network of the first question, then answers the others."""
    from keras_convnext.benchmark.networks import import_project, make_network

    settings = json.loads(next(questions))
    candidate, tasks = Candidate(**settings.pop("candidate")), settings.pop("tasks")
    import_project(candidate.project)
    before = _resident()
    started = time.perf_counter()
    try:
        network = make_network(candidate, **settings)
    except UserError as error:
        answer({"refused": str(error)})
        return
    build_seconds = time.perf_counter() - started
    calls = {task: getattr(network, task) for task in tasks}
    answer(
        {
            "parameters": network.parameters,
            "build_seconds": build_seconds,
            "first_call_seconds": {task: _first_calls(call) for task, call in calls.items()},
        }
    )
    for line in questions:
        question = json.loads(line)
        if "time" in question:
            answer(_seconds(calls[question["time"]]))
        else:
            answer(_peak_memory(calls[question["memory"]], before))


def _first_calls(call) -> float:
    """Returns the seconds of the first call; a second call completes any later set-up."""
    seconds = _seconds(call)
    call()
    return seconds


def _seconds(call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _peak_memory(call, before: int | None) -> float | None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() / MEBIBYTE
    jax = sys.modules.get("jax")
    if jax is not None and jax.default_backend() == "gpu":
        call()  # JAX reports the peak since the start, which the train step reached
        return jax.devices()[0].memory_stats()["peak_bytes_in_use"] / MEBIBYTE
    if before is None:
        return None
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    call()
    return (_status("VmHWM") - before) / MEBIBYTE


def _resident() -> int | None:
    return _status("VmRSS") if Path("/proc/self/clear_refs").exists() else None


def _status(name: str) -> int:
    """Returns an entry of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _main() -> None:
    # The frameworks print to standard output too, which must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value) -> None:
        answers.write(f"{json.dumps(value)}\n")
        answers.flush()

    with contextlib.suppress(BrokenPipeError):
        _answer_all(sys.stdin, answer)


if __name__ == "__main__":
    _main()
