"""Processes find each other, or say why they cannot."""

import json
import socket
import threading
import time

import pytest

from keras_convnext.distribution.tensorflow import cluster
from keras_convnext.distribution.tensorflow.cluster import Cluster, meet, read_cluster
from keras_convnext.errors import UserError

pytestmark = pytest.mark.backend_free


@pytest.fixture
def addresses():
    with socket.create_server(("", 0)) as first, socket.create_server(("", 0)) as second:
        return tuple(f"127.0.0.1:{server.getsockname()[1]}" for server in (first, second))


def outcomes(*clusters, timeout=5.0, delay=0.0):
    """Returns the error of each process, or `None`."""
    results = {}

    def run(index, own):
        time.sleep(delay * index)
        try:
            results[index] = meet(own, timeout)
        except UserError as error:
            results[index] = str(error)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(clusters)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[index] for index in range(len(clusters))]


def test_processes_meet_though_one_starts_later(addresses):
    assert outcomes(Cluster(addresses, 0), Cluster(addresses, 1), delay=0.5) == [None, None]


def test_a_missing_process_is_named(addresses):
    (error,) = outcomes(Cluster(addresses, 0), timeout=0.3)
    assert f"did not start within 0 seconds: 1 ({addresses[1]})" in error
    (error,) = outcomes(Cluster(addresses, 1), timeout=0.3)
    assert f"Process 0 could not be reached at {addresses[0]}" in error


def test_processes_with_different_lists_are_refused(addresses):
    other = (addresses[0], "127.0.0.1:1")
    errors = outcomes(Cluster(addresses, 0), Cluster(other, 1)._replace(addresses=other))
    # Port 1 may only be taken by root; where it can, the lists differ.
    assert any("do not have the same list" in str(x) or "cannot" in str(x) for x in errors)


def test_an_address_at_which_nobody_listens_is_named(addresses, monkeypatch):
    monkeypatch.setattr(cluster, "_difference", lambda *_: None)
    own = Cluster(addresses, 1)
    wrong = Cluster((addresses[0], "127.0.0.1:9"), 0)
    errors = outcomes(wrong, own)
    assert all("cannot reach it at 127.0.0.1:9" in error for error in errors), errors


def test_a_taken_port_is_named(addresses):
    with socket.create_server(("", int(addresses[0].rpartition(":")[2]))):
        (error,) = outcomes(Cluster(addresses, 0))
    assert f"should listen at {addresses[0]}" in error and "Choose another port" in error


@pytest.mark.parametrize(
    ("task", "rank"), [(("chief", 0), 0), (("worker", 0), 1), (("worker", 1), 2)]
)
def test_the_chief_comes_first(monkeypatch, task, rank):
    jobs = {"worker": ["b:1", "c:1"], "chief": ["a:1"]}
    config = {"cluster": jobs, "task": dict(zip(("type", "index"), task, strict=True))}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert read_cluster() == Cluster(("a:1", "b:1", "c:1"), rank)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"cluster": {"worker": ["a:1", "b:1"]}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
        '{"cluster": {"worker": ["a:1", "b"]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_an_unusable_list_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="TF_CONFIG must list the address"):
        read_cluster()


@pytest.mark.parametrize("text", ["", "{}", '{"cluster": {"worker": ["a:1"]}}'])
def test_one_process_is_no_cluster(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    assert read_cluster() is None
