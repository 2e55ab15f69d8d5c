"""Memory and time that the index of a folder of images takes, at the size of ImageNet-22K.

    python benchmarks/folder_index.py --save

Writes an index of 14 million generated names in 21,841 classes and looks some of them up; and
creates 100,000 empty files in 1,000 folders and lists them. Each measurement runs in a new process
and reports its resident memory before and at the peak. Mapped pages count, although processes
share them and the system reclaims them when memory is short. The last line of output is one JSON
document; `--save` also writes it to `benchmarks/results/folder_index.json`.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from common import answer_of, make_parser, new_document, publish

from keras_convnext import imagenet
from keras_convnext.data.sources.folder_index import (
    ClassFolder,
    FolderIndex,
    current_index,
    write_index,
)

FILES = 14_000_000
LOOK_UPS = 100_000
TREE = (1_000, 100)  # folders, and files in each


def main() -> None:
    parser = make_parser(__doc__, "folder_index")
    parser.add_argument("--only", choices=MEASUREMENTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        with tempfile.TemporaryDirectory() as name:
            print(json.dumps(MEASUREMENTS[arguments.only](Path(name))))
        return
    document = new_document("folder_index")
    for name in MEASUREMENTS:
        document[name] = answer_of([__file__, "--only", name])
    publish(document, document, to_file=arguments.save)


def made_up(directory: Path) -> dict:
    before, started = peak(), time.perf_counter()
    write_index(directory, names_of_imagenet_22k(), 0)
    written = time.perf_counter() - started
    after_writing = peak()
    started = time.perf_counter()
    index = FolderIndex(directory)
    opened = time.perf_counter() - started
    numbers = np.random.default_rng(0).integers(0, index.size, LOOK_UPS).tolist()
    started = time.perf_counter()
    for number in numbers:
        index.path_of(number)
    looked_up = time.perf_counter() - started
    return {
        "classes": len(index.class_names),
        "files": index.size,
        "bytes_on_disk": sum(path.stat().st_size for path in directory.iterdir()),
        "seconds_to_write": written,
        "seconds_to_open": opened,
        "seconds_a_look_up": looked_up / LOOK_UPS,
        "resident_bytes_before": before,
        "more_at_the_peak_of_writing": after_writing - before,
        "more_at_the_peak_of_looking_up": peak() - before,
    }


def names_of_imagenet_22k():
    synsets = sorted(imagenet.synsets(21841))
    for place, synset in enumerate(synsets):
        count = FILES // len(synsets) + (place < FILES % len(synsets))
        files = sorted(f"{synset}_{number}.JPEG" for number in range(10_000, 10_000 + count))
        yield ClassFolder(synset, files, {synset: 1_600_000_000_000_000_000 + place})


def on_disk(directory: Path) -> dict:
    folders, files = TREE
    for folder in range(folders):
        path = directory / "images" / f"n{folder:08}"
        path.mkdir(parents=True)
        for file in range(files):
            (path / f"n{folder:08}_{file}.JPEG").touch()
    time.sleep(3)  # until the modification times of the folders are old enough to be trusted
    before, started = peak(), time.perf_counter()
    index = current_index(directory / "index", directory / "images")
    listed = time.perf_counter() - started
    started = time.perf_counter()
    current_index(directory / "index", directory / "images")
    again = time.perf_counter() - started
    return {
        "classes": folders,
        "files": index.size,
        "seconds_to_list": listed,
        "seconds_a_file": listed / index.size,
        "seconds_to_see_that_nothing_changed": again,
        "more_at_the_peak": peak() - before,
    }


def peak() -> int:
    """Returns the peak resident memory of this process until now, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


MEASUREMENTS = {"made_up": made_up, "on_disk": on_disk}


if __name__ == "__main__":
    main()
