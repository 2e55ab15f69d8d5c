"""What goes wrong while an export is written, in this process and in another."""

import errno
import io
import logging
import subprocess
from pathlib import Path

import keras
import pytest

from keras_convnext import Predictor
from keras_convnext.errors import UserError
from keras_convnext.files import WriteError
from keras_convnext.serving import onnx_model
from keras_convnext.serving import run_with_backend as module
from keras_convnext.serving.run_with_backend import run_with_backend

pytestmark = pytest.mark.backend_free


@pytest.fixture(scope="module")
def model(classifier):
    return Predictor.of_model(classifier()).serving_model()


def fill_the_disk(model, path):
    with open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")


def refuse(model, path):
    raise UserError("It cannot be done, for a reason.")


def overflow(model, path):
    raise RuntimeError(f"pages: {'x' * 9000}\n{'more ' * 9000}")


@pytest.fixture
def in_this_process(monkeypatch):
    """Lets the other process be this one, so that it need not start."""

    def run(arguments, input, **_):
        monkeypatch.setattr("sys.stdin", io.StringIO(input))
        code = 0
        try:
            module._serve_request()
        except SystemExit as error:
            code = error.code
        return subprocess.CompletedProcess(arguments, code, stdout="", stderr="Traceback")

    monkeypatch.setattr(module.subprocess, "run", run)


def test_a_full_disk_is_an_error_of_the_operating_system(model, in_this_process, tmp_path):
    with pytest.raises(OSError) as raised:
        run_with_backend("jax", fill_the_disk, model, tmp_path / "model")
    assert (raised.value.errno, raised.value.strerror) == (errno.ENOSPC, "No space left on device")


def test_what_is_refused_in_a_sentence_is_refused_in_the_same(model, in_this_process, tmp_path):
    with pytest.raises(UserError, match=r"^It cannot be done, for a reason\.$"):
        run_with_backend("jax", refuse, model, tmp_path / "model")


def test_what_fills_pages_is_cut_short(model, in_this_process, tmp_path):
    with pytest.raises(UserError, match=r"jax backend: RuntimeError: pages: x+\.{3} Log") as raised:
        run_with_backend("jax", overflow, model, tmp_path / "model")
    assert len(str(raised.value)) < 400


def test_layers_the_other_process_does_not_know_are_named(in_this_process, tmp_path, caplog):
    class OfMyOwn(keras.layers.Layer):  # local, so that it is not found by its module
        def call(self, x):
            return x

    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(2)(keras.layers.GlobalMaxPooling2D()(OfMyOwn()(inputs)))
    model = Predictor.of_model(keras.Model(inputs, outputs)).serving_model()
    sentence = r"cannot be made in .* class 'OfMyOwn'.* With KERAS_BACKEND=\w+ no other process"
    with (
        caplog.at_level(logging.DEBUG, "keras_convnext"),
        pytest.raises(UserError, match=sentence) as raised,
    ):
        run_with_backend("jax", refuse, model, tmp_path / "model")
    assert len(str(raised.value)) < 450 and "\n" not in str(raised.value)
    assert "Traceback" in caplog.text  # for who wants to know all


@pytest.mark.parametrize(
    ("code", "said", "sentence"),
    [
        (1, "Traceback\nMemoryError: " + "x" * 9000, r"MemoryError: x{187}\.{3}"),
        (1, "", "it said nothing"),
        (-9, "", "it was ended by SIGKILL, as when memory runs out"),
    ],
)
def test_a_process_that_came_to_no_report_is_told_of(
    model, tmp_path, monkeypatch, code, said, sentence
):
    failed = subprocess.CompletedProcess([], code, stdout="", stderr=said)
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(UserError, match=f"model could not be written under .* backend: {sentence}"):
        run_with_backend("jax", onnx_model._write, model, tmp_path / "model")


def test_an_error_of_this_process_is_a_sentence_too(model, tmp_path):
    def write(model, path):
        raise RuntimeError("first line\n" + "more\n" * 1000)

    with pytest.raises(UserError, match=r"backend: RuntimeError: first line\. Logging") as raised:
        run_with_backend(keras.backend.backend(), write, model, tmp_path / "model")
    assert isinstance(raised.value.__cause__, RuntimeError)


def test_a_full_temporary_directory_is_named(model, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module.np, "savez", full)
    match = f"{tmp_path}/.* cannot be written: No space left on device"
    with pytest.raises(WriteError, match=match):
        run_with_backend("jax", onnx_model._write, model, Path("model"))
    assert list(tmp_path.iterdir()) == []
