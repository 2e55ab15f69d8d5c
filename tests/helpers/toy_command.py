"""`keras-convnext` for the tests of the documentation: the same command line, at toy size."""

import sys
from pathlib import Path

from small_tiny import replace_tiny

from keras_convnext.cli import main

SMALL = ["schedule.epochs=1", "schedule.warmup_epochs=0"]
NETWORK = ["model.depths=[1]", "model.dims=[8]"]
PHOTOS = ["data.batch_size=4", "data.image_size=32"]  # there are four of them
PLAIN = ["augment.rand_augment=null"]  # whose graph takes seconds to build
# Settings that cut a recipe down to seconds, by what its name contains.
TOY_SETTINGS = {
    "digits": [*SMALL, *NETWORK, *PLAIN, "data.batch_size=480"],
    "folder": [*SMALL, *NETWORK, *PLAIN, *PHOTOS],
    "mine": [*SMALL, *PLAIN, *PHOTOS],
    "transfer": [*SMALL, *PLAIN, *PHOTOS, "export.saved_model=false"],
}
TOY_OPTIONS = {
    "benchmark": [
        *("--rounds=1", "--batch-size=1", "--image-size=32"),
        *("--task=forward", "--precision=float32"),
    ],
}
# What is made smaller in a copy of quickstart/folder, which a page trains on from Python.
SIZES = {"depths: [2, 2, 4, 2]": "depths: [1]", "dims: [32, 64, 128, 256]": "dims: [8]"}


def run(arguments: list[str]) -> int:
    """Runs a command and returns its exit status."""
    command, *rest = arguments
    toy = list(TOY_OPTIONS.get(command, []))
    if command == "train":
        name = next((name for name in TOY_SETTINGS if name in rest[0]), None)
        if name is None:
            raise SystemExit(f"no toy settings for {rest[0]}")
        toy = TOY_SETTINGS[name]
    sys.argv = ["keras-convnext", *arguments, *toy]
    try:
        main()
    except SystemExit as end:
        if end.code:
            return end.code if isinstance(end.code, int) else 1
    if rest[:2] == ["copy", "quickstart/folder"]:
        make_small(Path(rest[2]))
    return 0


def make_small(recipe: Path) -> None:
    text = recipe.read_text()
    for size, small in SIZES.items():
        if size not in text:
            raise SystemExit(f"quickstart/folder has no {size!r}")
        text = text.replace(size, small)
    recipe.write_text(text)


if __name__ == "__main__":
    replace_tiny()
    sys.exit(run(sys.argv[1:]))
