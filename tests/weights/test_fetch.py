"""From what a user calls weights to a file: names, paths and addresses."""

import io
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from misbehaving_server import Served

from keras_convnext.errors import MissingPackage, WeightsError
from keras_convnext.weights.fetch import WEIGHT_FILES, cache_directory, fetch

pytestmark = pytest.mark.backend_free
pytest_plugins = ["web_fixtures"]

ON_THE_HUB = "convnext_tiny.fb_in1k"
OFFICIAL = "convnext_tiny_1k_224_ema.pth"
OFFICIAL_ONLY = "convnext_base.fb_in1k_384"


@pytest.fixture(autouse=True)
def keras_home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras"


@pytest.fixture
def official(server, monkeypatch):
    """The server of the official files."""
    monkeypatch.setattr(
        "keras_convnext.catalog.checkpoints.OFFICIAL_FILES", server.url("/official/")
    )
    return server


def safetensors_file(seed=0):
    return safetensors.numpy.save({"w": np.random.default_rng(seed).normal(size=200)})


def pytorch_file():
    import torch

    file = io.BytesIO()
    torch.save({"w": torch.arange(200.0)}, file)
    return file.getvalue()


def kept(directory):
    """Names of what the cache holds, but for locks."""
    return [path.name for path in directory.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_published_checkpoint_comes_from_timm(hub, official, keras_home):
    body = safetensors_file()
    hub.add(f"timm/{ON_THE_HUB}", {"model.safetensors": body})
    path = fetch(ON_THE_HUB)
    assert (path.name, path.read_bytes()) == ("model.safetensors", body)
    assert official.requests == []
    assert not keras_home.exists()


def test_a_published_checkpoint_can_be_had_as_it_was_published(hub, official, keras_home):
    body = pytorch_file()
    official.serve(f"/official/{OFFICIAL}", body)
    path = fetch(ON_THE_HUB, official=True)
    assert path == keras_home / "keras_convnext" / OFFICIAL
    assert path.read_bytes() == body
    assert fetch(ON_THE_HUB, official=True) == path
    assert len(official.requests) == 1
    assert hub.requests == []


def test_what_timm_does_not_have_comes_from_the_official_address(hub, official, keras_home):
    body = pytorch_file()
    official.serve("/official/convnext_base_1k_384.pth", body)
    assert fetch(OFFICIAL_ONLY).read_bytes() == body
    assert hub.requests == []


@pytest.mark.parametrize("name, official_file", [(ON_THE_HUB, True), (OFFICIAL_ONLY, False)])
def test_pytorch_is_asked_for_before_the_download(official, without_pytorch, name, official_file):
    with pytest.raises(
        MissingPackage, match=r"PyTorch, .* read convnext_.*\.pth, is not .*\[torch"
    ):
        fetch(name, official=official_file)
    assert official.requests == []


def test_timms_files_need_no_pytorch(hub, without_pytorch):
    hub.add(f"timm/{ON_THE_HUB}", {"model.safetensors": safetensors_file()})
    assert fetch(ON_THE_HUB).name == "model.safetensors"


def test_an_official_file_that_is_gone_is_told(official, refused):
    with refused(f"/official/{OFFICIAL} cannot be downloaded: the server answered 404"):
        fetch(ON_THE_HUB, official=True)


def test_a_repository_is_an_address(hub):
    body = safetensors_file()
    hub.add("owner/name", {"model.safetensors": body}, revision="v1")
    assert fetch("hf://owner/name@v1").read_bytes() == body


@pytest.mark.parametrize("address", ["hf://", "hf://a/b/c/d", "hf://nothing"])
def test_what_names_no_repository_is_refused(hub, refused, address):
    with refused("cannot be downloaded|There is no repository"):
        fetch(address)


def test_an_address_is_downloaded(server, keras_home):
    body = safetensors_file()
    server.serve("/weights.safetensors?download=true", body)
    path = fetch(server.url("/weights.safetensors?download=true"))
    assert path.read_bytes() == body
    assert keras_home in path.parents


def test_addresses_with_the_same_last_part_are_kept_apart(server):
    for seed in (1, 2):
        server.serve(f"/{seed}/model.safetensors", safetensors_file(seed))
    paths = [fetch(server.url(f"/{seed}/model.safetensors")) for seed in (1, 2)]
    assert [path.read_bytes() for path in paths] == [safetensors_file(seed) for seed in (1, 2)]
    assert [fetch(server.url(f"/{seed}/model.safetensors")) for seed in (1, 2)] == paths


@pytest.mark.parametrize("make", [safetensors_file, pytorch_file])
@pytest.mark.parametrize("missing", [1, 700])
def test_a_file_that_was_cut_short_is_refused(server, keras_home, refused, make, missing):
    whole = make()
    served = server.serve("/weights", whole[:-missing], headers={"ETag": '"first"'})
    with refused("/weights is not the file it should be: .*damaged"):
        fetch(server.url("/weights"))
    assert kept(keras_home) == []

    served.body = whole
    assert fetch(server.url("/weights")).read_bytes() == whole
    assert server.requests[-1].range is None


def test_a_page_that_calls_itself_a_file_is_refused(server, keras_home, refused):
    server.serve("/weights.pth", b"<!doctype html><html>Log in</html>")
    with refused("weights.pth is not the file it should be: .*web page"):
        fetch(server.url("/weights.pth"))
    assert kept(keras_home) == []


def test_a_file_is_taken_as_it_is(tmp_path):
    path = tmp_path / "anything"
    path.write_bytes(b"")
    assert fetch(path) == fetch(str(path)) == path


@pytest.mark.parametrize("count", range(1, len(WEIGHT_FILES) + 1))
def test_a_directory_stands_for_the_first_of_its_files(tmp_path, count):
    directory = tmp_path / "run"
    directory.mkdir()
    for name in (*WEIGHT_FILES[-count:], "config.json", "other.safetensors"):
        (directory / name).write_bytes(b"")
    assert fetch(directory) == fetch(str(directory)) == directory / WEIGHT_FILES[-count]


def test_the_order_of_names_is_safetensors_first():
    assert WEIGHT_FILES == (
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "last.keras",
        "model.weights.h5",
    )


def test_a_directory_without_weights_is_told(tmp_path, refused):
    (tmp_path / "model.safetensors").mkdir()
    with refused(f"The directory {tmp_path} holds no weights: none of model.safetensors, "):
        fetch(tmp_path)


@pytest.mark.parametrize(
    "name, hint",
    [
        ("convnext_tiny.fb_in1", "There are: convnext_tiny.fb_in1k, "),
        ("convnext_tinny.fb_in1k", "Did you mean 'convnext_tiny.fb_in1k'?"),
        ("fb_in1k_no_ema", "With the network's name before it: convnext_tiny.fb_in1k_no_ema, "),
        ("imagenet", "With the network's name before it: convnext_tiny.fb_in1k, "),
        ("qqq", "`keras-convnext weights list` shows all names."),
        ("missing/weights.safetensors", ""),
        ("x" * 300, "`keras-convnext weights list` shows all names."),
        ("with\0zero", ""),
    ],
)
def test_what_is_nothing_is_refused_with_a_hint(refused, name, hint):
    with refused("is neither a file, nor a directory, nor an address .* published") as caught:
        fetch(name)
    assert repr(name) in str(caught.value)
    assert hint in str(caught.value)


def test_downloads_are_kept_below_the_home_of_keras(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_HOME")
    assert cache_directory() == tmp_path / ".keras" / "keras_convnext"
    monkeypatch.setenv("KERAS_HOME", "~/elsewhere")
    assert cache_directory() == tmp_path / "elsewhere" / "keras_convnext"


def test_a_hub_in_trouble_does_not_lead_to_another_source(hub, official, refused):
    hub.find = lambda path: Served(status=500)
    with pytest.raises(WeightsError):
        fetch(ON_THE_HUB)
    assert official.requests == []


def test_an_official_file_with_one_wrong_bit_is_refused(official, keras_home, refused):
    body = bytearray(pytorch_file())
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        tensor = next(info for info in archive.infolist() if "/data/" in info.filename)
    body[tensor.header_offset + 30 + len(tensor.filename) + 100] ^= 1
    official.serve(f"/official/{OFFICIAL}", bytes(body))
    with refused(r"is not the file it should be: the checksum of .*/data/0 in it is wrong"):
        fetch(ON_THE_HUB, official=True)
    assert not (keras_home / "keras_convnext" / OFFICIAL).exists()


def test_an_official_file_that_was_cut_short_is_refused(official, keras_home, refused):
    official.serve(f"/official/{OFFICIAL}", pytorch_file()[:-700])
    with refused(f"/official/{OFFICIAL} is not the file it should be: .*damaged"):
        fetch(ON_THE_HUB, official=True)
    assert kept(keras_home) == []
