"""The bar chart of the README: ours beside keras.applications on the three backends.

    python benchmarks/speed_chart.py

Draws docs/images/speed.png from the measurements that `make bench` wrote.
"""

import json
from pathlib import Path

from keras_convnext.benchmark.report import write_chart
from keras_convnext.runtime import BACKENDS

ROOT = Path(__file__).parent.parent


def main() -> None:
    files = [ROOT / f"benchmarks/results/speed/{name}/benchmark.json" for name in BACKENDS]
    documents = [json.loads(file.read_text()) for file in files]
    results = [row for document in documents for row in document["results"]]
    write_chart({**documents[0], "results": results}, ROOT / "docs/images/speed.png")


if __name__ == "__main__":
    main()
