import contextlib
import importlib
import importlib.util
import os
import random
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_convnext import runtime
from keras_convnext.errors import MissingPackage, UserError
from keras_convnext.recipe import Runtime

BACKEND = keras.backend.backend()
OTHER = "jax" if BACKEND != "jax" else "torch"


@pytest.fixture
def before_keras(monkeypatch):
    """As if Keras had not been imported yet; it is back when the test ends."""
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    return monkeypatch


@pytest.fixture
def restored_configuration():
    policy, data_format = keras.config.dtype_policy(), keras.config.image_data_format()
    yield
    keras.config.set_dtype_policy(policy)
    keras.config.set_image_data_format(data_format)


def test_the_backend_keras_has_is_kept():
    runtime.choose_backend(BACKEND)
    runtime.choose_backend(None)
    assert os.environ["KERAS_BACKEND"] == BACKEND


def test_a_backend_is_refused_once_keras_has_another():
    with pytest.raises(UserError, match=f"'{OTHER}', but Keras was imported with '{BACKEND}'"):
        runtime.choose_backend(OTHER)
    assert os.environ["KERAS_BACKEND"] == BACKEND


@pytest.mark.backend_free
def test_a_backend_is_chosen_before_keras_is_imported(before_keras):
    before_keras.setenv("KERAS_BACKEND", "")  # so that it is put back
    before_keras.delenv("KERAS_BACKEND")
    runtime.choose_backend("torch")
    assert os.environ["KERAS_BACKEND"] == "torch"
    assert "keras" not in sys.modules


@pytest.mark.backend_free
def test_no_choice_leaves_it_to_keras(before_keras):
    runtime.choose_backend(None)
    assert "KERAS_BACKEND" not in os.environ


@pytest.mark.backend_free
def test_a_backend_that_disagrees_with_the_environment_is_refused(before_keras):
    before_keras.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(UserError, match="the environment variable KERAS_BACKEND is 'jax'"):
        runtime.choose_backend("torch")


@pytest.mark.backend_free
@pytest.mark.parametrize("by_environment", [True, False])
def test_a_backend_that_is_not_installed_names_its_extra(before_keras, by_environment):
    before_keras.setattr(importlib.util, "find_spec", lambda name: None)
    if by_environment:
        before_keras.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(MissingPackage, match=r"'jax' is not installed: .*keras-convnext\[jax\]"):
        runtime.choose_backend(None if by_environment else "jax")


@pytest.mark.backend_free
def test_starting_without_tensorflow_names_the_extra(monkeypatch):
    def not_there(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", not_there)
    with pytest.raises(MissingPackage, match=r"'keras', .* is not installed: .*\[train\]"):
        runtime.start_quietly()


@pytest.mark.backend_free
def test_messages_of_native_code_while_starting_are_captured(monkeypatch, capfd):
    imports = []

    def noisy(name):
        os.write(2, b"native noise\n")
        imports.append(name)
        return importlib.__import__(name)

    monkeypatch.setattr(importlib, "import_module", noisy)
    runtime.start_quietly()
    assert imports == ["keras", "tensorflow"]  # torch, which Keras may import, goes first
    assert "native noise" not in capfd.readouterr().err


@pytest.mark.backend_free
def test_what_native_code_says_is_shown_if_starting_fails(monkeypatch, capfd):
    def failing(name):
        os.write(2, b"native noise\n")
        raise ImportError("a library is broken")

    monkeypatch.setattr(importlib, "import_module", failing)
    with pytest.raises(ImportError, match="broken"):
        runtime.start_quietly()
    assert "native noise" in capfd.readouterr().err


def test_a_run_is_configured(restored_configuration):
    runtime.configure(Runtime(precision="mixed_bfloat16", seed=3))
    keras.config.set_image_data_format("channels_first")
    first = keras.random.uniform((4,))

    runtime.configure(Runtime(precision="mixed_bfloat16", seed=3))
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert keras.config.image_data_format() == "channels_last"
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(first), keras.ops.convert_to_numpy(keras.random.uniform((4,)))
    )

    runtime.configure(Runtime(seed=4))
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("fails", [False, True])
def test_after_a_run_keras_is_as_it_was_before(restored_configuration, fails):
    keras.config.set_dtype_policy("mixed_float16")
    keras.config.set_image_data_format("channels_first")
    random.seed(5)
    np.random.seed(6)
    expected = random.random(), np.random.random()
    random.seed(5)
    np.random.seed(6)
    with contextlib.suppress(KeyError), runtime.configured(Runtime(seed=3, deterministic=False)):
        assert keras.config.dtype_policy().name == "float32"
        assert keras.config.image_data_format() == "channels_last"
        if BACKEND == "torch":
            import torch

            torch.use_deterministic_algorithms(True)
        if fails:
            raise KeyError
    assert keras.config.dtype_policy().name == "mixed_float16"
    assert keras.config.image_data_format() == "channels_first"
    assert (random.random(), np.random.random()) == expected
    if BACKEND == "torch":
        assert not torch.are_deterministic_algorithms_enabled()


def test_what_a_result_depends_on_is_described():
    described = runtime.describe()
    assert described["backend"] == BACKEND
    assert described["packages"]["keras"] == keras.__version__
    assert described["packages"][BACKEND]


@pytest.mark.backend_free
def test_a_package_that_is_not_there_has_no_version(monkeypatch):
    monkeypatch.setattr(runtime, "PACKAGES", ("keras", "a-package-of-no-one"))
    assert runtime.describe()["packages"] == {
        "keras": keras.__version__,
        "a-package-of-no-one": None,
    }


@pytest.mark.backend_free
def test_a_backend_that_keras_does_not_know_is_refused_in_a_sentence(tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "keras_convnext", "evaluate", tmp_path],
        env={**os.environ, "KERAS_BACKEND": "theano"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1
    assert "theano" in process.stderr
    assert "Traceback" not in process.stderr


DETERMINISTIC_RUN = """
import os, sys
sys.argv = ["", "train", *sys.argv[1:]]
from keras_convnext import cli
backend = os.environ["KERAS_BACKEND"]
seen = []
if backend == "torch":  # where the choice is put back after the run
    import keras, torch
    fit = keras.Model.fit

    def fit_and_note(*args, **kwargs):
        seen.append(torch.are_deterministic_algorithms_enabled())
        return fit(*args, **kwargs)

    keras.Model.fit = fit_and_note
try:
    cli.app()
except SystemExit as end:
    assert not end.code
if backend == "tensorflow":
    from tensorflow.python.framework import config
    assert config.is_op_determinism_enabled()
if backend == "torch":
    assert seen == [True] and not torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
if backend == "jax":
    assert os.environ["XLA_FLAGS"].split()[-1] == "--xla_gpu_deterministic_ops=true"
"""


@pytest.mark.tensorflow_first
def test_a_run_can_be_made_deterministic(tmp_path, tiny_recipe):
    (tmp_path / "recipe.yaml").write_text(
        tiny_recipe("runtime.deterministic=true", "schedule.epochs=1", "schedule.warmup_epochs=0")
        .to_yaml()
        .replace("saved_model: true", "saved_model: false")
    )
    arguments = [tmp_path / "recipe.yaml", "--run-dir", tmp_path / "run"]
    process = subprocess.run(
        [sys.executable, "-c", DETERMINISTIC_RUN, *arguments],
        env={**os.environ, "KERAS_BACKEND": BACKEND},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "run/results.json").is_file()


@pytest.mark.backend_free
def test_determinism_is_refused_when_it_is_too_late(monkeypatch):
    jax = pytest.importorskip("jax")
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    runtime._make_jax_deterministic()  # on CPUs it always is
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(UserError, match=r"XLA_FLAGS=--xla_gpu_deterministic_ops=true before"):
        runtime._make_jax_deterministic()
    monkeypatch.setenv("XLA_FLAGS", "--xla_foo=1 --xla_gpu_deterministic_ops=true")
    runtime._make_jax_deterministic()

    torch = pytest.importorskip("torch")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(UserError, match="CUBLAS_WORKSPACE_CONFIG=:4096:8 before .*command line"):
        runtime._make_torch_deterministic()


@pytest.mark.backend_free
def test_flags_of_ones_own_are_kept(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_foo=1")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    for _ in range(2):
        runtime._prepare_determinism()
        assert os.environ["XLA_FLAGS"] == "--xla_foo=1 --xla_gpu_deterministic_ops=true"
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
