"""Processes that exchange values through files, and do what a test asks of them.

Usage: file_engine.py DIRECTORY RANK PROCESSES ACTION
"""

import os
import pickle
import signal
import sys
import time
from pathlib import Path

from keras_convnext.distribution import agreement
from keras_convnext.distribution.engine import Engine
from keras_convnext.distribution.watchdog import watched
from keras_convnext.errors import SharedError, UserError


class FileEngine(Engine):
    """An engine without devices."""

    def __init__(self, directory: Path, rank: int, processes: int) -> None:
        self.directory, self.rank, self.processes = directory, rank, processes
        self.exchanges = 0

    def gather(self, value):
        self.exchanges += 1
        mine = self.directory / f"{self.exchanges}_{self.rank}"
        mine.with_suffix(".part").write_bytes(pickle.dumps(value))
        mine.with_suffix(".part").rename(mine)
        others = [self.directory / f"{self.exchanges}_{rank}" for rank in range(self.processes)]
        while not all(path.exists() for path in others):
            time.sleep(0.02)
        return [pickle.loads(path.read_bytes()) for path in others]

    def broadcast(self, value):
        return self.gather(value)[0]


def killed(engine):
    if engine.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def main_killed(engine):
    if engine.rank == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def failed(engine):
    if engine.rank == 2:
        raise ValueError("broken")


def interrupted(engine):
    if engine.rank == 0:
        signal.raise_signal(signal.SIGINT)  # as Ctrl-C does


def broken_by_another(engine):
    if engine.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.5)
    raise RuntimeError("a collective has failed")


def refused_by_main(engine):
    def refuse():
        raise UserError("The main process refuses.")

    agreement.in_main_process(engine, refuse)


def refused_by_another(engine):
    def refuse():
        if engine.rank == 2:
            raise UserError("There are no images.")

    agreement.in_every_process(engine, refuse)


def different(engine):
    facts = {"seed": 0, "epochs": 5 + engine.rank // 2}
    agreement.check_same(engine, "recipe", facts, "Start all with the same recipe.")


def agreed(engine):
    assert agreement.in_main_process(engine, lambda: engine.rank) == 0
    assert agreement.in_every_process(engine, lambda: engine.rank) == engine.rank
    agreement.check_same(engine, "recipe", {"seed": 0}, "")


if __name__ == "__main__":
    directory, rank, processes, action = sys.argv[1:]
    engine = FileEngine(Path(directory), int(rank), int(processes))
    try:
        with watched(engine):
            globals()[action](engine)
            engine.gather("the end")
    except SharedError as error:
        sys.exit(f"shared: {error}")
    except UserError as error:
        sys.exit(f"reported: {error}")
