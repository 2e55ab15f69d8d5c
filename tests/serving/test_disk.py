"""Exports on a disk that is full or read-only: a sentence, and nothing in the next try's way."""

import errno
import os
import resource

import pytest

from keras_convnext import Predictor
from keras_convnext.files import WriteError
from keras_convnext.serving import onnx_model, openvino_model, saved_model

pytestmark = pytest.mark.backend_free

WRITERS = {
    "served": (saved_model, saved_model.write_saved_model),
    "model.onnx": (onnx_model, onnx_model.write_onnx),
    "model.xml": (openvino_model, openvino_model.write_openvino),
}


@pytest.fixture(scope="module")
def predictor(classifier):
    return Predictor.of_model(classifier())


def files_of(path):
    return [path / "saved_model.pb"] if path.is_dir() else [path, path.with_suffix(".bin")]


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_is_full_at_the_end_is_said_and_can_be_tried_again(
    predictor, tmp_path, monkeypatch, name
):
    module, write = WRITERS[name]

    def full(backend, function, predictor, path, **_):
        files_of(path)[0].write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "run_with_backend", full)
    with pytest.raises(WriteError, match=f"{name} cannot be written: No space left on device.$"):
        write(predictor, tmp_path / name)
    assert list(tmp_path.iterdir()) == []

    def enough(backend, function, predictor, path, **_):
        for file in files_of(path):
            file.write_text("whole")

    monkeypatch.setattr(module, "run_with_backend", enough)
    write(predictor, tmp_path / name)
    written = {path.name for path in tmp_path.iterdir()}
    assert written == ({name, "model.bin"} if name == "model.xml" else {name})


@pytest.mark.parametrize("name", WRITERS)
def test_a_read_only_disk_is_said_before_anything_is_computed(
    predictor, tmp_path, monkeypatch, name
):
    module, write = WRITERS[name]
    computed = []
    monkeypatch.setattr(module, "run_with_backend", lambda *_, **__: computed.append(name))
    make = os.mkdir

    def read_only(path, *arguments, **options):
        if str(tmp_path) in str(path):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        make(path, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", read_only)
    with pytest.raises(WriteError, match=f"{name} cannot be written: Read-only file system.$"):
        write(predictor, tmp_path / name)
    assert computed == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("served", 3000, "File too large"),
        ("model.xml", 30_000, "OpenVINO stopped writing"),  # room for the .bin alone
    ],
)
def test_what_the_frameworks_say_of_a_full_disk_is_understood(
    predictor, tmp_path, monkeypatch, name, size, reason
):
    """Their own writers, which raise no `OSError`, where no file can grow beyond a size."""
    module, write = WRITERS[name]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limited(backend, function, predictor, path, **_):
        if module is openvino_model:
            converted = module._converted(predictor)
            monkeypatch.setattr(module, "_converted", lambda _: converted)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            function(predictor, path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    monkeypatch.setattr(module, "run_with_backend", limited)
    monkeypatch.setenv("AUTOGRAPH_VERBOSITY", "0")
    with pytest.raises(WriteError, match=f"{name} cannot be written: {reason}") as raised:
        write(predictor, tmp_path / name)
    assert len(str(raised.value)) < 300
    assert list(tmp_path.iterdir()) == []
