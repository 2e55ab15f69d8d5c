"""Times candidates in turn, each in its own process."""

import contextlib
import itertools
import statistics
from collections.abc import Sequence
from datetime import date

from rich.progress import Progress

from keras_convnext.benchmark.candidates import OURS, PRECISIONS, Candidate
from keras_convnext.benchmark.machine import describe_machine
from keras_convnext.benchmark.worker import Worker
from keras_convnext.console import console

TASKS = ("forward", "train")


def compare(
    candidates: Sequence[Candidate],
    batch_size: int = 8,
    image_size: int = 224,
    rounds: int = 7,
    tasks: Sequence[str] = TASKS,
) -> dict:
    """Times networks in turn, so that a slow phase of the machine affects all of them.

    In every round each candidate runs each task once. All candidates of one precision are in memory
    at the same time; the precisions are compared one after the other.

    Args:
        candidates: The networks to compare.
        batch_size: Images a call. Defaults to 8.
        image_size: Height and width of the images in pixels, for candidates without a size of their
            own. Defaults to 224.
        rounds: Measured calls of each task. Defaults to 7.
        tasks: Some of `"forward"` and `"train"`. Defaults to both.

    Returns:
        A document for JSON: the settings, the machine, and `results` with a row for each candidate:
        `seconds` and `first_call_seconds` for each task, `images_per_second` from their median,
        `build_seconds` and, if it trained, `train_memory_mib`.

    Raises:
        UserError: If a project lacks a network.
        RuntimeError: If a process failed; the message contains its output.
    """
    results: list[dict] = []
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(candidates) * (1 + rounds))
        for precision in PRECISIONS:
            group = [one for one in candidates if one.precision == precision]
            with contextlib.ExitStack() as stack:
                workers = [
                    stack.enter_context(
                        Worker(one, batch_size, one.image_size or image_size, tasks)
                    )
                    for one in group
                ]
                results += _measure(workers, batch_size, rounds, tasks, progress, bar)
    return {
        "benchmark": "speed",
        "date": date.today().isoformat(),
        "batch_size": batch_size,
        "image_size": image_size,
        "rounds": rounds,
        "machine": describe_machine(),
        "results": results,
    }


def _measure(workers, batch_size, rounds, tasks, progress, bar):
    """Returns a row for each worker; all of them hold their networks at the same time."""
    rows = []
    for worker in workers:
        progress.update(bar, description=f"{worker.candidate.label}: first calls")
        rows.append({**vars(worker.candidate), **worker.prepare()})
        progress.advance(bar)
    progress.update(bar, description="rounds")
    seconds = _time_in_turn(workers, rounds, tasks, lambda: progress.advance(bar))
    for row, worker, of_tasks in zip(rows, workers, seconds, strict=True):
        row["seconds"] = of_tasks
        row["images_per_second"] = {
            task: batch_size / statistics.median(times) for task, times in of_tasks.items()
        }
        row["train_memory_mib"] = worker.train_memory() if "train" in tasks else None
    return rows


def _time_in_turn(workers, rounds, tasks, advance):
    """Returns the seconds of every task of every worker."""
    seconds: list[dict[str, list[float]]] = [{task: [] for task in tasks} for _ in workers]
    for _ in range(rounds):
        for worker, of_tasks in zip(workers, seconds, strict=True):
            for task in tasks:
                of_tasks[task].append(worker.time(task))
            advance()
    return seconds


def ratios(document: dict) -> list[dict]:
    """Returns how many times faster our network is than every peer of the same precision.

    Each ratio is the median over the rounds, in which both ran one after the other.

    Args:
        document: The result of `compare`.

    Returns:
        A row for each pair, with the labels `ours` and `peer`, the `precision`, a ratio for each
        task, and `memory`, the peer's memory of a train step over ours.
    """
    rows = []
    pairs = itertools.product(document["results"], repeat=2)
    for ours, peer in pairs:
        apart = ours["precision"] != peer["precision"]
        if ours["project"] != OURS or peer["project"] == OURS or apart:
            continue
        row = {"ours": label_of(ours), "peer": label_of(peer), "precision": ours["precision"]}
        for task, times in ours["seconds"].items():
            each = [theirs / own for own, theirs in zip(times, peer["seconds"][task], strict=True)]
            row[task] = statistics.median(each)
        memory = ours["train_memory_mib"], peer["train_memory_mib"]
        row["memory"] = memory[1] / memory[0] if all(memory) else None
        rows.append(row)
    return rows


def label_of(row: dict) -> str:
    """Returns the label of a row's candidate."""
    size = row.get("image_size")  # missing in older reports
    return Candidate(row["project"], row["network"], row["backend"], row["precision"], size).label
