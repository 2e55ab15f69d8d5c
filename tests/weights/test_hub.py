"""`fetch_from_hub` against a Hugging Face Hub on this machine that does what the Hub might."""

import hashlib
import json
import threading

import numpy as np
import pytest
import safetensors.numpy
from huggingface_hub import constants, file_download
from misbehaving_server import Served

from keras_convnext.errors import WeightsError
from keras_convnext.weights.fetch import WEIGHT_FILES
from keras_convnext.weights.hub import fetch_from_hub
from keras_convnext.weights.tensor_files import open_tensor_file

pytestmark = pytest.mark.backend_free
pytest_plugins = ["web_fixtures"]

BODY = np.random.default_rng(0).bytes(4000)
OTHER = np.random.default_rng(1).bytes(4000)
FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def fetch(repository="owner/name"):
    return fetch_from_hub(repository, WEIGHT_FILES)


@pytest.fixture
def sharded(hub):
    """A repository of two safetensors files and their index; returns their values."""
    values = {"first": np.arange(6, dtype="float32").reshape(2, 3), "second": np.ones(4, "float32")}
    shard_of = dict(zip(values, SHARDS, strict=True))
    files = {
        shard: safetensors.numpy.save({name: values[name]}) for name, shard in shard_of.items()
    }
    files[INDEX] = json.dumps({"metadata": {}, "weight_map": shard_of}).encode()
    hub.add("owner/name", files)
    return values


def test_the_preferred_file_is_taken(hub):
    hub.add("owner/name", {"pytorch_model.bin": OTHER, FILE: BODY})
    path = fetch()
    assert (path.name, path.read_bytes()) == (FILE, BODY)
    assert hub.asked() == [FILE]


def test_a_repository_may_have_one_of_the_other_files_only(hub):
    hub.add("owner/name", {"pytorch_model.bin": BODY, "config.json": b"{}"})
    path = fetch()
    assert (path.name, path.read_bytes()) == ("pytorch_model.bin", BODY)


def test_all_shards_are_fetched_with_their_index(hub, sharded):
    path = fetch()
    assert path.name == INDEX
    assert sorted(hub.asked()) == sorted([INDEX, *SHARDS])
    tensors = open_tensor_file(path)
    assert tensors.shapes == {name: value.shape for name, value in sharded.items()}
    for name, value in sharded.items():
        np.testing.assert_array_equal(tensors.read(name), value)


def test_a_revision_may_be_named(hub):
    hub.add("owner/name", {FILE: BODY})
    hub.commit = "d" * 40
    hub.add("owner/name", {FILE: OTHER}, revision="v1.0")
    assert fetch("owner/name@v1.0").read_bytes() == OTHER
    assert fetch("owner/name").read_bytes() == BODY


def test_shards_are_those_of_the_revision(hub):
    index = b'{"weight_map": {"a": "model-1.safetensors"}}'
    hub.add("owner/name", {INDEX: index, "model-1.safetensors": OTHER})
    hub.commit = "d" * 40
    hub.add("owner/name", {INDEX: index, "model-1.safetensors": BODY}, revision="v1.0")
    path = fetch("owner/name@v1.0")
    assert path.with_name("model-1.safetensors").read_bytes() == BODY


def test_small_files_are_not_called_by_their_sha256(hub):
    hub.add("owner/name", {FILE: BODY})
    hub.file("owner/name", FILE).headers["ETag"] = f'"{"a" * 40}"'
    assert fetch().read_bytes() == BODY


def test_what_is_in_the_cache_is_not_sent_again(hub, sharded):
    first = fetch()
    sent = len(hub.asked())
    assert fetch() == first
    assert len(hub.asked()) == sent


@pytest.mark.parametrize("trouble", ["offline", "unreachable", "500"])
def test_what_is_in_the_cache_needs_no_hub(hub, sharded, monkeypatch, trouble):
    first = fetch()
    sent = len(hub.asked())
    if trouble == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    if trouble == "500":
        hub.find = lambda path: Served(status=500)
    else:
        hub.close()
    assert fetch() == first
    assert open_tensor_file(first).shapes.keys() == sharded.keys()
    assert len(hub.asked()) == sent


def test_another_file_than_the_preferred_may_be_in_the_cache(hub, monkeypatch):
    hub.add("owner/name", {"pytorch_model.bin": BODY})
    first = fetch()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch() == first


def test_offline_a_file_has_to_be_in_the_cache(hub, monkeypatch, refused):
    hub.add("owner/name", {FILE: BODY})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with refused("hf://owner/name is not in the cache of .*HF_HUB_OFFLINE"):
        fetch()
    assert hub.requests == []


def test_offline_all_shards_have_to_be_in_the_cache(hub, sharded, monkeypatch, refused):
    hub.file("owner/name", SHARDS[1]).status = 500
    with pytest.raises(WeightsError):
        fetch()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with refused("owner/name.* cannot be |owner/name.* is not in the cache"):
        fetch()


def test_a_hub_that_is_not_there_is_told_soon(hub, refused):
    hub.close()
    with refused("hf://owner/name is not in the cache .* the Hub cannot be reached"):
        fetch()
    assert sum(hub.waits) < 30  # huggingface_hub tries for 23 seconds, and there are five names


def test_a_hub_that_falls_silent_is_told(hub, monkeypatch, refused):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    hub.add("owner/name", {FILE: BODY})
    served = hub.file("owner/name", FILE)
    served.cuts, served.stall = [1000] + [0] * 20, threading.Event()
    with refused(f"hf://owner/name/{FILE} cannot be downloaded"):
        fetch()
    served.stall.set()


def test_a_hub_in_trouble_is_told(hub, refused):
    hub.add("owner/name", {FILE: BODY})
    hub.file("owner/name", FILE).status = 500
    with refused("hf://owner/name.* answered 500"):
        fetch()
    assert hub.asked("HEAD") == [FILE]  # and not for the other names, each of which takes its time


def test_what_is_no_hub_is_told(hub, refused):
    hub.find = lambda path: Served(b"<html>Log in</html>", {"Content-Type": "text/html"})
    with refused("hf://owner/name.* cannot be (reached|had)"):
        fetch()


def test_a_repository_that_is_not_there_is_named(hub, refused):
    with refused("There is no repository owner/nmae on the Hugging Face Hub, or it is private"):
        fetch("owner/nmae")


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_repository_is_told(hub, refused, status):
    hub.find = lambda path: Served(status=status, headers={"X-Error-Code": "GatedRepo"})
    with refused("hf://owner/name.* is gated: accept its terms, and `hf auth login`"):
        fetch()


def test_a_revision_that_is_not_there_is_named(hub, refused):
    hub.add("owner/name", {FILE: BODY})
    with refused("hf://owner/name has no revision 'v9'"):
        fetch("owner/name@v9")


def test_a_repository_without_weights_is_told(hub, refused):
    hub.add("owner/name", {"config.json": b"{}"})
    with refused(f"hf://owner/name holds no weights: none of {', '.join(WEIGHT_FILES)} is there"):
        fetch()


@pytest.mark.parametrize(
    "repository", ["nothing", "", "a/b/c/d", "owner/name/", "owner name/x", "-/-", "owner/na--me"]
)
def test_what_names_no_repository_is_refused(hub, refused, repository):
    with refused("cannot be downloaded|There is no repository") as caught:
        fetch(repository)
    assert "repo_type" not in str(caught.value)


def test_what_breaks_off_is_tried_again(hub):
    hub.add("owner/name", {FILE: BODY})
    hub.file("owner/name", FILE).cuts = [1000, 500]
    assert fetch().read_bytes() == BODY
    assert hub.asked() == [FILE] * 3


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_what_always_breaks_off_is_told(hub, refused, reset):
    hub.add("owner/name", {FILE: BODY})
    served = hub.file("owner/name", FILE)
    served.cuts, served.reset = [1000] + [0] * 20, reset
    with refused(f"hf://owner/name/{FILE} cannot be downloaded"):
        fetch()
    served.cuts, served.reset = [], False
    assert fetch().read_bytes() == BODY


def test_a_file_that_is_shorter_than_was_announced_is_refused(hub, refused):
    hub.add("owner/name", {FILE: BODY})
    served = hub.file("owner/name", FILE)
    served.headers["X-Linked-Size"] = "4000"
    served.body = BODY[:3000]
    with refused(f"hf://owner/name/{FILE} cannot be downloaded: .*4000.*3000"):
        fetch()
    served.body = BODY
    assert fetch().read_bytes() == BODY


def test_a_damaged_file_is_refused_and_sent_again(hub, refused):
    hub.add("owner/name", {FILE: BODY})
    served = hub.file("owner/name", FILE)
    served.body = OTHER
    digest = hashlib.sha256(BODY).hexdigest()
    with refused(f"hf://owner/name/{FILE} arrived damaged: its SHA-256 is not {digest}"):
        fetch()
    served.body = BODY
    assert fetch().read_bytes() == BODY
    assert hub.asked() == [FILE, FILE]


def test_a_damaged_shard_is_refused_and_sent_again(hub, sharded, refused):
    served = hub.file("owner/name", SHARDS[1])
    whole = served.body
    served.body = bytes(len(whole))
    with refused(f"hf://owner/name/{SHARDS[1]} arrived damaged"):
        fetch()
    served.body = whole
    tensors = open_tensor_file(fetch())
    np.testing.assert_array_equal(tensors.read("second"), sharded["second"])


@pytest.mark.parametrize("before", ["another file", "no file"])
def test_a_damaged_update_is_refused(hub, refused, before):
    hub.add("owner/name", {FILE: OTHER} if before == "another file" else {"last.keras": OTHER})
    fetch()
    hub.commit = "d" * 40
    hub.add("owner/name", {FILE: BODY})
    served = hub.file("owner/name", FILE)
    served.body = OTHER[::-1]
    with refused(f"{FILE} arrived damaged"):
        fetch()
    served.body = BODY
    assert fetch().read_bytes() == BODY


@pytest.fixture
def xet(hub, monkeypatch):
    """Has the Hub keep a file in Xet, whose client is stood in for; returns what it delivers."""
    hub.add("owner/name", {FILE: BODY})
    hub.file("owner/name", FILE).headers |= {
        "X-Xet-Hash": "e" * 64,
        "X-Xet-Refresh-Route": hub.url("/api/models/owner/name/xet-read-token/main"),
    }
    delivered = [BODY]
    monkeypatch.setattr(file_download, "is_xet_available", lambda: True)
    monkeypatch.setattr(
        file_download,
        "xet_get",
        lambda incomplete_path, **_: incomplete_path.write_bytes(delivered[0]),
    )
    return delivered


def test_a_file_kept_in_xet_is_fetched(hub, xet):
    path = fetch()
    assert (path.name, path.read_bytes()) == (FILE, BODY)
    assert fetch() == path


def test_a_damaged_file_kept_in_xet_is_refused(hub, xet, refused):
    xet[:] = [OTHER]
    with refused(f"{FILE} arrived damaged"):
        fetch()
    xet[:] = [BODY]
    assert fetch().read_bytes() == BODY


def test_an_index_with_a_missing_shard_is_refused(hub, sharded, refused):
    del hub.files[f"/owner/name/resolve/main/{SHARDS[1]}"]
    with refused(SHARDS[1]):
        fetch()


@pytest.mark.parametrize(
    "index", [b"", b"{", b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": {"a": 1}}']
)
def test_a_damaged_index_is_refused(hub, refused, index):
    hub.add("owner/name", {INDEX: index})
    with refused(INDEX):
        fetch()


def test_an_index_may_not_lead_elsewhere(hub, refused):
    hub.add("owner/name", {INDEX: b'{"weight_map": {"a": "../../../../a.safetensors"}}'})
    with refused("names .*a.safetensors., which is no safetensors file beside it"):
        fetch()


def test_a_cache_that_cannot_be_is_told(hub, tmp_path, monkeypatch, refused):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    hub.add("owner/name", {FILE: BODY})
    with refused(f"hf://owner/name/{FILE} cannot be downloaded: .*[Nn]ot a directory"):
        fetch()
