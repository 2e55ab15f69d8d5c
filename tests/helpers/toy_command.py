"""`keras-convnext` for the tests of the documentation: the same command line, at toy size."""

import sys

from keras_convnext.cli import main

SMALL = ["schedule.epochs=1", "schedule.warmup_epochs=0"]
NETWORK = ["model.depths=[1,1]", "model.dims=[8,16]"]
PHOTOS = ["data.batch_size=4", "data.image_size=32"]  # there are four of them
# Settings that cut a recipe down to seconds, by what its name contains.
TOY_SETTINGS = {
    "digits": [*SMALL, *NETWORK, "data.test_fraction=0.9"],
    "folder": [*SMALL, *NETWORK, *PHOTOS],
    "mine": [*SMALL, *NETWORK, *PHOTOS],
    "transfer": [*SMALL, *PHOTOS, "export.saved_model=false"],
}
TOY_OPTIONS = {
    "benchmark": ["--rounds=1", "--batch-size=1", "--image-size=32", "--task=forward"],
}


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "train":
        for name, settings in TOY_SETTINGS.items():
            if name in arguments[0]:
                sys.argv += settings
                break
        else:
            raise SystemExit(f"no toy settings for {arguments[0]}")
    sys.argv += TOY_OPTIONS.get(command, [])
    main()
