"""Files of version 0.1, in whose recipes some keys had other names, are still used as they are.

For each backend `tests/fixtures/runs_of_0_1` has a run that was stopped after the first of its two
epochs, and the metrics of the same run without the stop.
"""

import json
import tarfile
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_convnext import evaluate, export, train
from keras_convnext.recipe import load_recipe
from keras_convnext.runs.directory import RunDirectory

FIXTURES = Path(__file__).parent / "fixtures/runs_of_0_1"
BACKEND = keras.backend.backend()


def unpacked(backend, directory) -> RunDirectory:
    with tarfile.open(FIXTURES / f"{backend}.tar.gz") as archive:
        archive.extractall(directory, filter="data")
    return RunDirectory.open(directory)


@pytest.mark.tensorflow_first
def test_an_unfinished_run_resumes_and_ends_as_the_uninterrupted_one(tmp_path):
    run = unpacked(BACKEND, tmp_path)
    recipe = run.recipe()
    assert recipe.optimizer.gradient_accumulation_steps == 2
    assert recipe.augment.rand_augment.probability == 0.8
    train(recipe, tmp_path)
    lines = (FIXTURES / f"{BACKEND}.metrics.jsonl").read_text().splitlines()
    assert len(run.metrics()) == len(lines) == 2
    for ours, line in zip(run.metrics(), lines, strict=True):
        theirs = json.loads(line)
        assert ours.keys() == theirs.keys()
        # Another processor, or another version of the backend, may differ in the last bits, which
        # can turn the class of an image in 1,438 that is nearly a tie.
        for name in theirs.keys() - {"seconds"}:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=2e-3), name


@pytest.mark.backend_free
def test_a_run_is_evaluated_and_exported(tmp_path):
    run = unpacked("tensorflow", tmp_path)
    evaluation = evaluate(run.path)
    assert evaluation.top(1) == pytest.approx(run.metrics()[-1]["val_accuracy"], abs=1e-3)
    assert export(run.path).is_dir()


@pytest.mark.backend_free
def test_the_recipe_in_a_run_is_a_recipe_to_train(tmp_path):
    run = unpacked("tensorflow", tmp_path)
    assert load_recipe(run.recipe_file, ["schedule.epochs=4"]).schedule.epochs == 4


def test_a_model_gives_the_same_outputs(tmp_path):
    model = keras.saving.load_model(unpacked("tensorflow", tmp_path).last_model)
    with np.load(FIXTURES / "tensorflow.outputs.npz") as expected:
        outputs = model.predict(expected["images"].astype("float32"), verbose=0)
        np.testing.assert_allclose(outputs, expected["outputs"], rtol=1e-4, atol=1e-5)
