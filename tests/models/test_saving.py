"""Files: `.keras` and `.weights.h5`, on this backend and from here to the other two."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_convnext

CHILD = Path(__file__).parents[1] / "helpers" / "load_on_this_backend.py"
# Each backend saves for the next one, so that every one saves and every one loads.
NEXT_BACKEND = {"tensorflow": "jax", "jax": "torch", "torch": "tensorflow"}
OTHER_BACKEND = NEXT_BACKEND[keras.backend.backend()]


def classifier(small, **arguments):
    return keras_convnext.ConvNeXt(**small, classes=3, input_shape=(16, 16, 3), **arguments)


def compile_classifier(model):
    model.compile(keras_convnext.optimizers.AdamW(1e-3), "sparse_categorical_crossentropy")
    return model


def random_states(model):
    """Returns the states of the random generators, which are the variables of integers."""
    return [
        ops.convert_to_numpy(variable)
        for variable in model.non_trainable_variables
        if variable.path.endswith("seed_generator_state")
    ]


def assert_all_equal(actual, expected):
    assert len(actual) == len(expected) > 0
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.tensorflow_first
class TestAnotherBackend:
    """Saves here, loads in a process of the next backend."""

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("saved")
        small = {"depths": (1, 1), "dims": (4, 8), "kernel_size": 3}
        random = np.random.default_rng(0)
        images = random.uniform(0, 255, (6, 16, 16, 3)).astype("float32")
        labels = np.arange(6) % 3
        np.savez(folder / "data.npz", images=images, labels=labels)

        plain = classifier(small, drop_path_rate=0.3, layer_scale_init_value=0.5)
        plain.save(folder / "plain.keras")
        np.save(folder / "outputs.npy", plain.predict(images, verbose=0))

        # Without stochastic depth, whose draws differ: training must go on as it does here.
        compiled = compile_classifier(classifier(small))
        compiled.fit(images, labels, batch_size=6, verbose=0)
        compiled.save(folder / "compiled.keras")
        losses = compiled.fit(images, labels, batch_size=6, epochs=3, verbose=0).history["loss"]
        (folder / "losses.json").write_text(json.dumps(losses), encoding="utf-8")

        environment = {**os.environ, "KERAS_BACKEND": OTHER_BACKEND}
        child = subprocess.run(
            [sys.executable, CHILD, folder], env=environment, capture_output=True, text=True
        )
        assert child.returncode == 0, child.stderr
        return folder

    def test_outputs_are_equal(self, folder):
        outputs = np.load(folder / f"outputs_{OTHER_BACKEND}.npy")

        np.testing.assert_allclose(outputs, np.load(folder / "outputs.npy"), rtol=1e-5, atol=1e-6)

    def test_training_continues_with_the_optimizer_as_it_was(self, folder):
        found = json.loads((folder / f"found_{OTHER_BACKEND}.json").read_text(encoding="utf-8"))
        losses = json.loads((folder / "losses.json").read_text(encoding="utf-8"))

        assert found["backend"] == OTHER_BACKEND
        assert found["optimizer"] == "AdamW"
        assert (found["steps_before"], found["steps_after"]) == (1, 4)
        assert losses[-1] < losses[0]
        assert found["losses"] == pytest.approx(losses, rel=1e-3)


def test_keras_file_round_trip_keeps_the_model_as_it_is(small, images, tmp_path):
    model = classifier(small, drop_path_rate=0.3)

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")

    assert_all_equal(loaded.get_weights(), model.get_weights())
    assert [layer.get_config() for layer in loaded.layers] == [
        layer.get_config() for layer in model.layers
    ]
    x = images(2, 16, 16, 3)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_weights_argument_takes_a_file(small, tmp_path, suffix):
    model, path = classifier(small), tmp_path / f"model{suffix}"
    (model.save_weights if suffix == ".weights.h5" else model.save)(path)
    other = classifier(small)
    assert not np.array_equal(other.get_weights()[0], model.get_weights()[0])

    assert_all_equal(classifier(small, weights=path).get_weights(), model.get_weights())
    assert_all_equal(classifier(small, weights=str(path)).get_weights(), model.get_weights())


def test_random_states_come_back_from_both_files(small, images, tmp_path):
    model = compile_classifier(classifier(small, drop_path_rate=0.5))
    fresh_states = random_states(model)
    model.fit(images(4, 16, 16, 3), np.arange(4) % 3, verbose=0)
    assert not np.array_equal(random_states(model), fresh_states)

    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    rebuilt = classifier(small, drop_path_rate=0.5)
    rebuilt.load_weights(tmp_path / "model.weights.h5")

    assert_all_equal(random_states(loaded), random_states(model))
    assert_all_equal(random_states(rebuilt), random_states(model))


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
@pytest.mark.parametrize(("saved_rate", "rate"), [(0.0, 0.3), (0.3, 0.0)])
def test_weights_load_into_a_network_of_another_drop_path_rate(
    small, tmp_path, saved_rate, rate, suffix
):
    saved, path = classifier(small, drop_path_rate=saved_rate), tmp_path / f"saved{suffix}"
    (saved.save_weights if suffix == ".weights.h5" else saved.save)(path)

    loaded = classifier(small, drop_path_rate=rate, weights=path)

    assert_all_equal(
        [ops.convert_to_numpy(weight) for weight in loaded.trainable_weights],
        [ops.convert_to_numpy(weight) for weight in saved.trainable_weights],
    )


@pytest.mark.parametrize("dtype_policy", ["mixed_bfloat16"], indirect=True)
def test_dtype_policy_is_kept_in_the_file(small, tmp_path, dtype_policy):
    classifier(small).save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("float32")

    loaded = keras.saving.load_model(tmp_path / "model.keras")

    assert loaded.get_layer("stages_0_blocks_0").dtype_policy.name == "mixed_bfloat16"
    assert loaded.get_layer("stages_0_blocks_0").depthwise_conv.compute_dtype == "bfloat16"
    assert loaded.get_layer("head").compute_dtype == "float32"


def test_file_from_when_the_normalization_was_called_normalization(small, images, tmp_path):
    model = classifier(small)
    model.save(tmp_path / "new.keras")
    with (
        zipfile.ZipFile(tmp_path / "new.keras") as new,
        zipfile.ZipFile(tmp_path / "old.keras", "w") as old,
    ):
        for name in new.namelist():
            content = new.read(name)
            if name == "config.json":
                assert b"pixel_normalization" in content
                content = content.replace(b"pixel_normalization", b"normalization")
            old.writestr(name, content)

    loaded = keras.saving.load_model(tmp_path / "old.keras")

    assert "normalization" in [layer.name for layer in loaded.layers]
    x = images(2, 16, 16, 3)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    keras_convnext.load_weights(classifier(small), tmp_path / "old.keras")
    loaded.save_weights(tmp_path / "old.weights.h5")
    other = classifier(small)
    other.load_weights(tmp_path / "old.weights.h5")
    assert_all_equal(other.get_weights(), model.get_weights())
