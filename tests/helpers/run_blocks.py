"""Runs the code blocks of a page one after another, in the working directory.

    python run_blocks.py < blocks.json

Python blocks share their names, as in a session. With the environment variable `IMAGES` they find
as many `images` and `labels`. Shell blocks go to bash.
"""

import json
import os
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
            subprocess.run(["bash", "-euc", text], check=True)


if __name__ == "__main__":
    main()
