"""Python processes that start at once: they are forked from one that has imported Keras.

    process = start("-m", "keras_convnext", "train", recipe, environment={"EPOCHS": "2"})
    output, _ = process.communicate(timeout=60)

The import of Keras and TensorFlow takes longer than most of what a test lets a process do. What
libraries read from the environment when they are imported is that of the tests, whatever
`environment` says; PyTorch's number of threads is set again.
"""

import atexit
import itertools
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["keras_convnext.workflows", "keras_convnext.data.pipeline"])
OUTPUTS = tempfile.TemporaryDirectory()
NUMBERS = itertools.count()


class QuickPython:
    """A process with the methods of `subprocess.Popen` that the tests use."""

    def __init__(self, arguments, environment, cwd, stderr_apart):
        self._arguments = tuple(map(str, arguments))
        number = next(NUMBERS)
        self._outputs = [
            Path(OUTPUTS.name, f"{number}.{stream}") for stream in range(1 + stderr_apart)
        ]
        settings = (self._arguments, environment, str(cwd), list(map(str, self._outputs)))
        self._process = CONTEXT.Process(target=_run, args=settings)
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self.returncode

    def kill(self):
        self._process.kill()

    def terminate(self):
        self._process.terminate()

    def communicate(self, timeout=None):
        """Returns what the process printed, and its errors if they were asked for apart."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._arguments, timeout)
        return (*(path.read_text() for path in self._outputs), None)[:2]


def start(*arguments, environment=None, cwd=".", stderr_apart=False):
    """Starts what `python *arguments` runs: a file, or a module after `-m`.

    Args:
        *arguments: The arguments of Python.
        environment: Environment variables beside those of this process.
        cwd: The working directory.
        stderr_apart: Whether standard error is collected apart from standard output.
    """
    return QuickPython(arguments, {**os.environ, **(environment or {})}, cwd, stderr_apart)


def run(*arguments, timeout=None, **options):
    """Runs as `start` does and waits; returns a `subprocess.CompletedProcess`."""
    process = start(*arguments, **options)
    try:
        outputs = process.communicate(timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(arguments, process.returncode, *outputs)


def _run(arguments, environment, cwd, outputs):
    for stream, name in enumerate(outputs if len(outputs) > 1 else outputs * 2, 1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    _set_threads()
    first, *rest = arguments
    try:
        if first == "-m":
            name, *rest = rest
            sys.argv = [name, *rest]
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            sys.argv = [first, *rest]
            sys.path.insert(0, str(Path(first).resolve().parent))
            runpy.run_path(first, run_name="__main__")
    finally:
        # Python's own end of a process, which `multiprocessing` skips.
        atexit._run_exitfuncs()


def _set_threads():
    if "torch" in sys.modules and "OMP_NUM_THREADS" in os.environ:
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
