"""Runs the code blocks of a page one after another, in the working directory.

    python run_blocks.py < blocks.json

Python blocks share their names, as in a session. With the environment variable `IMAGES` they find
as many `images` and `labels`. Shell blocks go to bash, but for the lines that only run
`keras-convnext`: those run in this process, which spares them the imports.
"""

import json
import os
import shlex
import subprocess
import sys


def main() -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}
    count = int(os.environ.get("IMAGES", "0"))
    if count:
        import numpy as np

        namespace["images"] = np.random.default_rng(0).uniform(0, 255, (count, 224, 224, 3))
        namespace["labels"] = np.arange(count)
    for kind, text in json.load(sys.stdin):
        print(f"--- {kind}\n{text}", file=sys.stderr, flush=True)
        if kind == "python":
            exec(compile(text, "block", "exec"), namespace)
        else:
            for line in text.splitlines():
                run_line(line)


def run_line(line: str) -> None:
    words = shlex.split(line, comments=True)
    # Another backend needs a process of its own.
    needs_shell = any(sign in line for sign in "*?|<>$~;&\\") or "runtime.backend=" in line
    if not words:
        return
    if words[0] != "keras-convnext" or needs_shell:
        subprocess.run(["bash", "-euc", line], check=True)
        return
    import toy_command

    status = toy_command.run(words[1:])
    if status:
        raise SystemExit(f"{line}: status {status}")


if __name__ == "__main__":
    main()
