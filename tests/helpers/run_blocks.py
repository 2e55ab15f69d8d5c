"""Runs the code blocks of a page one after another, in the working directory.

    python run_blocks.py blocks.json

Python blocks share their names, as in a session. With the environment variable `IMAGES` they find
as many `images` and `labels`. Commands run in this process too, to save the time of the imports,
but for those that need a process in which nothing has been computed yet.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from small_tiny import replace_tiny
from toy_command import run

NEED_A_NEW_PROCESS = ("runtime.backend=", "distribution.")


def main() -> None:
    replace_tiny()
    namespace: dict[str, object] = {"__name__": "__main__"}
    count = int(os.environ.get("IMAGES", "0"))
    if count:
        import numpy as np

        namespace["images"] = np.random.default_rng(0).uniform(0, 255, (count, 224, 224, 3))
        namespace["labels"] = np.arange(count)
    for kind, text in json.loads(Path(sys.argv[1]).read_text()):
        print(f"--- {kind}\n{text}", file=sys.stderr, flush=True)
        if kind == "python":
            exec(compile(text, "block", "exec"), namespace)
        else:
            for command in text.splitlines():
                run_command(command)


def run_command(command: str) -> None:
    words = shlex.split(command, comments=True)
    if words[0] != "keras-convnext" or any(part in command for part in NEED_A_NEW_PROCESS):
        subprocess.run(["bash", "-euc", command], check=True)
    elif status := run(words[1:]):
        raise SystemExit(f"{command} ended with status {status}")


if __name__ == "__main__":
    main()
