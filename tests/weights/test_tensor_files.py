"""Files that are damaged, hostile or something else are refused by a sentence, none is executed."""

import io
import json
import os
import pickle
import re
import struct
import zipfile
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch
from PIL import Image

from keras_convnext.errors import MissingPackage, WeightsError
from keras_convnext.weights.tensor_files import open_tensor_file, pytorch_file
from keras_convnext.weights.weight_file import WeightFile

pytestmark = pytest.mark.backend_free

TENSORS = {"a": np.arange(6, dtype="float32").reshape(2, 3), "b": np.ones(4, "float32")}


def assert_refused(path, match, read=open_tensor_file):
    """Expects one line that names the file. What a library says of damage may stand at its end."""
    with pytest.raises(WeightsError, match=match) as caught:
        read(path)
    text = str(caught.value)
    sentences, _, _ = text.partition("damaged and cannot be read: ")
    assert path.name in sentences
    assert "\n" not in text
    assert len(sentences) < len(text) or text.endswith(".")
    assert not re.search(r"Errno|Error\b|Traceback|<class|\[|\.\.$", sentences)
    assert not re.search(r"Traceback|enforce fail|https?://(?!git-lfs)", text)


def written(path, content):
    path.write_bytes(content)
    return path


def safetensors_file(path, header, data=b"", length=None):
    """Writes the parts of a safetensors file as they are given; a `str` need be no JSON."""
    if not isinstance(header, str):
        header = json.dumps(header)
    header = header.encode()
    length = len(header) if length is None else length
    return written(path, struct.pack("<Q", length) + header + data)


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


class Payload:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


class TestPickles:
    @pytest.fixture
    def proof(self, tmp_path):
        """The file that exists if anything was executed."""
        proof = tmp_path / "executed"
        yield proof
        assert not proof.exists()

    @pytest.fixture
    def hostile(self, proof):
        return {"a": torch.ones(2), "payload": Payload(proof)}

    def test_the_payload_works(self, tmp_path):
        pickle.loads(pickle.dumps(Payload(tmp_path / "works")))

        assert (tmp_path / "works").exists()

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_file_of_pytorch_that_runs_a_command(self, zipped, hostile, tmp_path):
        torch.save(hostile, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)

        assert_refused(tmp_path / "a.pth", "other than tensors.*system.*refused, and nothing")

    @pytest.mark.parametrize("protocol", range(6))
    def test_bare_pickle_that_runs_a_command(self, protocol, proof, tmp_path):
        payload = {"a": Payload(proof)}
        file = written(tmp_path / "a.pth", pickle.dumps(payload, protocol=protocol))

        assert_refused(file, "refused, and nothing|no weights that can be read")

    def test_command_among_the_arguments_of_a_run(self, proof, tmp_path):
        import argparse

        arguments = argparse.Namespace(model="convnext_tiny", lr=Payload(proof))
        torch.save({"model": {"a": torch.ones(2)}, "args": arguments}, tmp_path / "a.pth")

        assert_refused(tmp_path / "a.pth", "other than tensors")

    def test_whole_network_in_a_pickle(self, tmp_path):
        torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth")

        assert_refused(tmp_path / "a.pth", "other than tensors.*Linear")

    def test_the_list_of_what_pytorch_may_load_is_left_as_it_was(self, tmp_path):
        before = set(torch.serialization.get_safe_globals())
        torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
        open_tensor_file(tmp_path / "a.pth")

        assert set(torch.serialization.get_safe_globals()) == before

    def test_without_pytorch(self, tmp_path, without_pytorch):
        torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")

        with pytest.raises(MissingPackage, match=r"PyTorch.*read a\.pth.*not installed: pip"):
            open_tensor_file(tmp_path / "a.pth")


class TestPyTorch:
    def test_an_unsafe_pytorch_reads_nothing(self, tmp_path, monkeypatch):
        torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")
        monkeypatch.setattr(torch, "__version__", "2.5.1+cu121")

        with pytest.raises(
            WeightsError, match=r"PyTorch 2\.5\.1.* may run code .* from version 2\.6"
        ):
            open_tensor_file(tmp_path / "a.pth")

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_gives_the_same_however_often_it_is_mapped_anew(self, zipped, tmp_path, monkeypatch):
        monkeypatch.setattr(pytorch_file, "REOPEN_AFTER", 10)
        tensors = {name: torch.from_numpy(value) for name, value in TENSORS.items()}
        torch.save(tensors, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        file = open_tensor_file(tmp_path / "a.pth")

        assert file.shapes == {"a": (2, 3), "b": (4,)}
        for name in ("a", "b", "a"):
            np.testing.assert_array_equal(file.read(name), TENSORS[name])

    @pytest.mark.parametrize(
        "content",
        [[torch.ones(2)], torch.ones(2), {}, {"epoch": 3}, {"model": {"epoch": 3}}, "text"],
        ids=["list", "tensor", "empty", "numbers", "numbers in model", "text"],
    )
    def test_without_a_state_dict(self, content, tmp_path):
        torch.save(content, tmp_path / "a.pth")

        assert_refused(tmp_path / "a.pth", "holds no state dict: a dict of tensors")

    def test_names_that_are_no_text(self, tmp_path):
        torch.save({0: torch.ones(2)}, tmp_path / "a.pth")

        assert_refused(tmp_path / "a.pth", "state dict|names")

    @pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_truncated(self, keep, zipped, tmp_path):
        torch.save({"a": torch.rand(5000)}, tmp_path / "w", _use_new_zipfile_serialization=zipped)
        content = (tmp_path / "w").read_bytes()
        file = written(tmp_path / "a.pth", content[: int(keep * len(content))])

        assert_refused(file, "damaged and cannot be read")

    def test_zip_that_is_no_weights(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("readme.txt", "hello")

        assert_refused(tmp_path / "a.zip", r"damaged|no weights that can be read")

    def test_tensors_that_no_array_can_hold(self, tmp_path):
        """Found when the file is opened, and not when half of a network has been replaced."""
        sparse = torch.eye(3).to_sparse()
        torch.save({"a": torch.ones(2), "b": sparse}, tmp_path / "a.pth")

        def read_all(path):
            file = open_tensor_file(path)
            return [file.read(name) for name in file.shapes]

        assert_refused(tmp_path / "a.pth", "'?b'?", read_all)


class TestSafetensors:
    def test_gives_shapes_and_values(self, tmp_path):
        safetensors.numpy.save_file(TENSORS, tmp_path / "a.safetensors")
        file = open_tensor_file(tmp_path / "a.safetensors")

        assert file.shapes == {"a": (2, 3), "b": (4,)}
        for name, expected in TENSORS.items():
            np.testing.assert_array_equal(file.read(name), expected)

    @pytest.mark.parametrize("dtype", ["float16", "float64", "int64", ml_dtypes.bfloat16], ids=str)
    def test_reads_every_type_as_float32(self, dtype, tmp_path):
        expected = np.array([1.5, -2, 3]).astype(dtype)
        safetensors.numpy.save_file({"a": expected}, tmp_path / "a.safetensors")

        actual = open_tensor_file(tmp_path / "a.safetensors").read("a")

        assert actual.dtype == "float32"
        np.testing.assert_array_equal(actual, expected.astype("float32"))

    # A header's length is the first bytes of a file: some of them are how another file begin.
    @pytest.mark.parametrize("length", [*range(256, 512, 8), 0x3C20, 0x3C2020])
    def test_header_of_any_length(self, length, tmp_path, without_pytorch):
        header = {"__metadata__": {"padding": ""}, "a": entry([1], 0, 4)}
        header["__metadata__"]["padding"] = "x" * (length - len(json.dumps(header)))
        file = safetensors_file(tmp_path / "a.safetensors", header, np.float32(7).tobytes())
        assert safetensors.numpy.load_file(file) == {"a": [7]}

        opened = open_tensor_file(file)

        assert (opened.shapes, opened.read("a")) == ({"a": (1,)}, [7])

    @pytest.mark.parametrize("length", [0, 1, 1000, 10**9, 2**63, 2**64 - 1])
    def test_header_that_lies_about_its_length(self, length, tmp_path):
        header = {"a": entry([1], 0, 4)}
        file = safetensors_file(tmp_path / "a.safetensors", header, b"0000", length)

        assert_refused(file, "damaged and cannot be read")

    @pytest.mark.parametrize(
        "header",
        [
            {"a": entry([2], 0, 4)},
            {"a": entry([1], 0, 400)},
            {"a": entry([1], 400, 404)},
            {"a": entry([1], 4, 0)},
            {"a": entry([1], 0, 4), "b": entry([1], 0, 4)},
            {"a": entry([1], 0, 4), "b": entry([1], 2, 6)},
            {"a": entry([2**62, 8], 0, 4)},
            {"a": entry([-1], 0, 4)},
            {"a": entry([1], 0, 4, "F31")},
            {"a": {"dtype": "F32"}},
            {"a": entry([1], 0, 4), "b": entry([0], 1, 0)},
            {"a": 3},
            "{no json",
            '{"a": ' * 1000,
            "{}" + " " * 30 + "}",
        ],
        ids=lambda header: str(header)[:60],
    )
    def test_header_that_lies(self, header, tmp_path):
        file = safetensors_file(tmp_path / "a.safetensors", header, b"00000000")

        assert_refused(file, "damaged and cannot be read")

    @pytest.mark.parametrize("keep", [9, 60, -1])
    def test_truncated(self, keep, tmp_path):
        safetensors.numpy.save_file(TENSORS, tmp_path / "whole")
        content = (tmp_path / "whole").read_bytes()
        file = written(tmp_path / "a.safetensors", content[:keep])

        assert_refused(file, "damaged and cannot be read")

    def test_longer_than_its_header_says(self, tmp_path):
        safetensors.numpy.save_file(TENSORS, tmp_path / "whole")
        content = (tmp_path / "whole").read_bytes()

        assert_refused(written(tmp_path / "a.safetensors", content + b"0"), "damaged")

    def test_tensors_that_no_array_can_hold(self, tmp_path):
        header = {"a": entry([4], 0, 4, "F8_E8M0"), "b": entry([8], 4, 8, "F4")}
        file = safetensors_file(tmp_path / "a.safetensors", header, b"0" * 8)

        def read_all(path):
            opened = open_tensor_file(path)
            return [opened.read(name) for name in opened.shapes]

        assert_refused(file, "cannot be read", read_all)


class TestShards:
    @pytest.fixture
    def index(self, tmp_path):
        """Returns a function that writes an index beside `1.safetensors`, which holds `a`."""
        safetensors.numpy.save_file({"a": TENSORS["a"]}, tmp_path / "1.safetensors")

        def write(content):
            path = tmp_path / "model.safetensors.index.json"
            path.write_text(content if isinstance(content, str) else json.dumps(content))
            return path

        return write

    def test_gives_shapes_and_values(self, index, tmp_path):
        safetensors.numpy.save_file({"b": TENSORS["b"]}, tmp_path / "2.safetensors")
        path = index({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})
        file = open_tensor_file(path)

        assert file.shapes == {"a": (2, 3), "b": (4,)}
        np.testing.assert_array_equal(file.read("b"), TENSORS["b"])

    def test_missing_file(self, index):
        path = index({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})

        assert_refused(path, r"2\.safetensors.*(missing|not there|not beside|no such)")

    @pytest.mark.parametrize("absolute", [False, True])
    def test_file_in_another_directory(self, absolute, index, tmp_path):
        """A repository's index may not name what else is on this machine."""
        (tmp_path / "repository").mkdir()
        path = index({}).rename(tmp_path / "repository" / "model.safetensors.index.json")
        outside = str(tmp_path / "1.safetensors") if absolute else "../1.safetensors"
        path.write_text(json.dumps({"weight_map": {"a": outside}}))

        assert_refused(path, r"1\.safetensors")

    def test_tensor_that_its_file_has_not(self, index):
        path = index({"weight_map": {"a": "1.safetensors", "b": "1.safetensors"}})

        assert_refused(path, "b")

    def test_index_that_names_itself(self, index):
        path = index({"weight_map": {"a": "model.safetensors.index.json"}})

        assert_refused(path, "index")

    @pytest.mark.parametrize(
        "content",
        ["", "{", "[]", "3", {}, {"weight_map": []}, {"weight_map": {"a": 1}}],
        ids=str,
    )
    def test_index_that_is_none(self, content, index):
        assert_refused(index(content), "index|damaged")

    def test_index_that_is_no_text(self, index):
        path = index("{}")
        path.write_bytes(b"\xff\xfe\x00")

        assert_refused(path, "index|damaged")

    def test_damaged_file(self, index, tmp_path):
        path = index({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})
        (tmp_path / "2.safetensors").write_bytes(b"")

        with pytest.raises(WeightsError, match=r"2\.safetensors is empty\."):
            open_tensor_file(path)


class TestHdf5:
    @pytest.fixture
    def legacy(self, tmp_path):
        """Returns a function that writes a file of Keras 2 with one layer, `fill` makes its `a`."""

        def write(fill):
            with h5py.File(tmp_path / "a.h5", "w") as file:
                file.attrs["layer_names"] = np.array([b"layer"])
                file.create_group("layer").attrs["weight_names"] = np.array([b"layer/a:0"])
                fill(file["layer"].create_group("layer"), "a:0")
            return tmp_path / "a.h5"

        return write

    @pytest.fixture
    def secret(self, tmp_path):
        with h5py.File(tmp_path / "secret.h5", "w") as file:
            file["secret"] = np.arange(3, dtype="float32")
        return tmp_path / "secret.h5"

    def test_gives_shapes_and_values(self, legacy):
        file = open_tensor_file(legacy(lambda group, name: group.update({name: TENSORS["a"]})))

        assert file.shapes == {"layer/0": (2, 3)}
        np.testing.assert_array_equal(file.read("layer/0"), TENSORS["a"])

    @pytest.mark.parametrize("keep", [0.3, 0.9])
    def test_truncated(self, keep, tmp_path):
        with h5py.File(tmp_path / "whole", "w") as file:
            file["a"] = np.zeros(5000)
        content = (tmp_path / "whole").read_bytes()
        file = written(tmp_path / "a.h5", content[: int(keep * len(content))])

        assert_refused(file, "damaged and cannot be read")

    def test_name_that_leads_nowhere(self, legacy):
        assert_refused(legacy(lambda group, name: None), "damaged and cannot be read")

    def test_group_where_a_weight_should_be(self, legacy):
        assert_refused(legacy(lambda group, name: group.create_group(name)), "damaged")

    def test_text_where_a_weight_should_be(self, legacy):
        def read(path):
            file = open_tensor_file(path)
            return file.read("layer/0")

        path = legacy(lambda group, name: group.update({name: "text"}))
        assert_refused(path, "cannot be read", read)

    def test_link_to_another_file(self, legacy, secret):
        """A file of weights may not show what else is on this machine."""
        link = h5py.ExternalLink(str(secret), "secret")

        assert_refused(legacy(lambda group, name: group.update({name: link})), "another file")

    def test_values_in_another_file(self, legacy, tmp_path):
        (tmp_path / "secret").write_bytes(b"0123456789ab")

        def fill(group, name):
            group.create_dataset(
                name, (3,), "float32", external=[(str(tmp_path / "secret"), 0, 12)]
            )

        assert_refused(legacy(fill), "another file")

    def test_values_mapped_from_another_file(self, legacy, secret):
        layout = h5py.VirtualLayout((3,), "float32")
        layout[:] = h5py.VirtualSource(str(secret), "secret", (3,))

        path = legacy(lambda group, name: group.create_virtual_dataset(name, layout))
        assert_refused(path, "another file")

    def test_values_in_another_file_in_the_layout_of_keras_3(self, tmp_path):
        (tmp_path / "secret").write_bytes(b"0123456789ab")
        with h5py.File(tmp_path / "a.weights.h5", "w") as file:
            variables = file.create_group("layers/layer/vars")
            external = [(str(tmp_path / "secret"), 0, 12)]
            variables.create_dataset("0", (3,), "float32", external=external)

        assert_refused(tmp_path / "a.weights.h5", "another file")

    def test_keras_archive_whose_weights_are_damaged(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
            archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(100))

        assert_refused(tmp_path / "a.keras", "damaged and cannot be read")

    def test_keras_archive_whose_check_sum_is_wrong(self, tmp_path):
        with h5py.File(tmp_path / "w", "w") as file:
            file["layers/layer/vars/0"] = np.arange(3000)
        with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
            archive.write(tmp_path / "w", "model.weights.h5")
        content = bytearray((tmp_path / "a.keras").read_bytes())
        content[10_000] ^= 255

        assert_refused(written(tmp_path / "a.keras", content), "damaged and cannot be read")


def png():
    content = io.BytesIO()
    Image.new("RGB", (4, 4)).save(content, "PNG")
    return content.getvalue()


class TestOtherFiles:
    def test_empty(self, tmp_path):
        assert_refused(written(tmp_path / "a.pth", b""), "is empty")

    @pytest.mark.parametrize(
        "content",
        [b"<!DOCTYPE html><html>404</html>", b"\n  <html></html>", b"<script>{}</script>"],
        ids=str,
    )
    def test_web_page(self, content, tmp_path):
        assert_refused(written(tmp_path / "a.pth", content), "is a web page.*download went wrong")

    def test_pointer_of_git_lfs(self, tmp_path):
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 114374272\n"

        assert_refused(written(tmp_path / "model.safetensors", pointer), "git lfs pull")

    @pytest.mark.parametrize(
        "content",
        [png(), b"1", b"some text that is no weights", bytes(1000), b'{"error": "not found"}'],
        ids=["png", "byte", "text", "zeros", "json"],
    )
    def test_something_else(self, content, tmp_path):
        expected = r"no weights that can be read.*\.h5.*can|damaged and cannot be read"
        assert_refused(written(tmp_path / "a.pth", content), expected)

    @pytest.mark.parametrize("seed", range(20))
    @pytest.mark.parametrize(
        "start",
        [b"", b"\x80\x02", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x40" + bytes(7) + b"{"],
        ids=["anything", "pickle", "zip", "h5", "safetensors"],
    )
    def test_random_bytes(self, start, seed, tmp_path):
        content = start + np.random.default_rng(seed).bytes(2000)

        expected = "damaged|no weights|refused|web page"
        assert_refused(written(tmp_path / "a.pth", content), expected)


class TestOtherNetworks:
    """Tensors that can be read and are no ConvNeXt's."""

    EXPECTED = r"holds no ConvNeXt of a known format.*Its first tensors: "

    def test_resnet(self, tmp_path):
        from torchvision.models import resnet18

        with torch.device("meta"):
            shapes = {name: value.shape for name, value in resnet18().state_dict().items()}
        tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
        torch.save(tensors, tmp_path / "resnet18.pth")

        assert_refused(tmp_path / "resnet18.pth", self.EXPECTED + r"conv1\.weight", WeightFile)

    def test_no_tensor_at_all(self, tmp_path):
        safetensors.numpy.save_file({}, tmp_path / "a.safetensors")

        assert_refused(tmp_path / "a.safetensors", self.EXPECTED + "none", WeightFile)

    def test_h5_of_no_keras_model(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["values"] = np.arange(3)

        assert_refused(tmp_path / "a.h5", self.EXPECTED, WeightFile)

    @pytest.mark.parametrize(
        "shapes",
        [
            {"stem.weight": (), "blocks.0.dwconv.weight": ()},
            {"stem/conv/kernel": (7, 7, 1), "stages_0_blocks_0/depthwise_conv/kernel": (7, 7, 1)},
        ],
        ids=str,
    )
    def test_names_of_a_convnext_with_shapes_of_nothing(self, shapes, tmp_path):
        tensors = {name: np.zeros(shape, "float32") for name, shape in shapes.items()}
        safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors")

        def describe(path):
            return WeightFile(path).architecture

        assert_refused(tmp_path / "a.safetensors", "shape|ConvNeXt", describe)

    def test_stage_without_its_downsampling(self, tmp_path):
        tensors = {
            "stem.0.weight": np.zeros((8, 3, 4, 4), "float32"),
            "stages.0.blocks.0.conv_dw.weight": np.zeros((8, 1, 7, 7), "float32"),
            "stages.1.blocks.0.conv_dw.weight": np.zeros((16, 1, 7, 7), "float32"),
        }
        safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors")

        def describe(path):
            return WeightFile(path).architecture

        assert_refused(tmp_path / "a.safetensors", "downsampl|stage", describe)
