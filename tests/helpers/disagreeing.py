"""One of two processes whose recipes, packages and data differ; prints the refusals."""

import sys

import numpy as np

from keras_convnext import load_recipe, runtime
from keras_convnext.data.sources.split import ArraySplit
from keras_convnext.distribution.start import started
from keras_convnext.errors import UserError
from keras_convnext.runs import process_check
from keras_convnext.runs.process_check import check_same_data, check_same_program


def main() -> None:
    recipe = load_recipe(sys.argv[1])
    with started(recipe.distribution) as engine:
        another = engine.rank == 1
        seed = ["runtime.seed=1"] if another else []
        attempt(engine, lambda: check_same_program(engine, load_recipe(sys.argv[1], seed)))

        environment = runtime.describe()
        if another:
            environment["packages"]["numpy"] = "0.1"
        process_check.runtime = type("Runtime", (), {"describe": staticmethod(lambda: environment)})
        attempt(engine, lambda: check_same_program(engine, recipe))

        images = 5 + another
        labels = np.zeros(images, "int32")
        split = ArraySplit(np.zeros((images, 8, 8, 3), "uint8"), labels, ("a", "b"))
        attempt(engine, lambda: check_same_data(engine, split, None))


def attempt(engine, check) -> None:
    try:
        check()
    except UserError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
    else:
        print("nothing differs", flush=True)


if __name__ == "__main__":
    main()
