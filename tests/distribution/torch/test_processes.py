"""Processes that cannot be joined on PyTorch, and those that end early."""

import os
import signal
import subprocess
import sys
import time

import keras
import pytest

if keras.backend.backend() != "torch":
    pytest.skip("this is PyTorch's distribution", allow_module_level=True)

import torch.distributed as dist
from local_processes import environments

from keras_convnext.distribution import start_timeout
from keras_convnext.distribution.engine import Engine
from keras_convnext.distribution.torch import processes
from keras_convnext.distribution.torch.data_parallel import data_parallel
from keras_convnext.distribution.torch.engine import make_engine
from keras_convnext.errors import UserError


@pytest.fixture
def launched(monkeypatch):
    """Sets the variables of torchrun, for the process of a rank."""

    def launch(rank=0, count=1, **others):
        for name, value in (environments("torch", count)[rank] | others).items():
            monkeypatch.setenv(name, value)

    yield launch
    processes.leave()


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    """Without the variables of a cluster on which the tests may run."""
    for name in (*processes.VARIABLES, start_timeout.TIMEOUT):
        monkeypatch.delenv(name, raising=False)


def test_missing_variables_are_named(launched, monkeypatch):
    launched()
    monkeypatch.delenv("MASTER_ADDR")
    monkeypatch.delenv("LOCAL_RANK")
    with pytest.raises(UserError, match="missing: LOCAL_RANK, MASTER_ADDR. Start"):
        processes.join()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"MASTER_PORT": "ssh"}, "must be whole numbers. Received: MASTER_PORT='ssh'"),
        ({"RANK": "1"}, "RANK must be less than WORLD_SIZE.*RANK=1, WORLD_SIZE=1"),
        ({"KERAS_CONVNEXT_START_TIMEOUT": "soon"}, "must be a number of seconds.*'soon'"),
    ],
)
def test_wrong_variables_are_named(launched, values, message):
    launched(**values)
    with pytest.raises(UserError, match=message):
        processes.join()


def test_a_wrong_address_is_named_in_time(launched):
    launched(rank=1, count=2)
    started = time.monotonic()
    with pytest.raises(UserError, match=r"could not be reached at 127.0.0.1:\d+ within 1 seconds"):
        processes.join(timeout=1)
    assert time.monotonic() - started < 20


def test_processes_that_do_not_start_are_named_in_time(launched, monkeypatch):
    launched(count=3)
    monkeypatch.setenv(start_timeout.TIMEOUT, "1")
    started = time.monotonic()
    with pytest.raises(UserError, match="Not all of the 3 processes started.*missing: rank 1, 2"):
        processes.join()
    assert time.monotonic() - started < 20
    assert not dist.is_initialized()


# Joins, and then sums a number over all processes; the one with rank 1 is killed in between.
KILLED = """
import os, signal, sys
import torch, torch.distributed as dist
from keras_convnext.distribution.torch import processes
processes.join(60)
number = torch.ones(1)
dist.all_reduce(number)
print("together", flush=True)
if processes.rank() == 1:
    os.kill(os.getpid(), signal.SIGKILL)
dist.all_reduce(number)
"""


def test_the_others_end_when_a_process_is_killed():
    children = [
        subprocess.Popen(
            [sys.executable, "-c", KILLED],
            env={**os.environ, **variables, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for variables in environments("torch", 2)
    ]
    try:
        _, killed = (child.communicate(timeout=120) for child in children)
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert children[1].returncode == -signal.SIGKILL, killed
    assert children[0].returncode > 0


def test_an_engine_of_one_process_needs_no_torchrun():
    assert type(make_engine("data_parallel")) is Engine
    assert type(make_engine("data_parallel", devices=1)) is Engine


def test_several_devices_need_torchrun():
    with pytest.raises(UserError, match="4 devices need 4 processes.*torchrun --nproc-per-node 4"):
        make_engine("data_parallel", devices=4)


def test_torchrun_must_start_as_many_processes_as_devices(launched):
    launched()
    with pytest.raises(UserError, match="the 4 devices asked for; it started 1"):
        make_engine("data_parallel", devices=4)
    assert not dist.is_initialized()


def test_weights_are_not_split():
    with pytest.raises(UserError, match="must be 'data_parallel'.*Received: 'model_parallel'"):
        make_engine("model_parallel", devices=4)


def test_a_group_can_be_left_and_joined_again(launched):
    launched()
    for _ in range(2):
        engine = make_engine("data_parallel", devices=1)
        assert (engine.rank, engine.processes, dist.get_backend()) == (0, 1, "gloo")
        engine.close()
        assert not dist.is_initialized()


def test_gpus_without_torchrun_are_not_left_idle(monkeypatch, classifier):
    monkeypatch.setattr(processes, "on_gpu", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(UserError, match="torchrun --nproc-per-node 2 SCRIPT"):
        data_parallel(classifier())
    with pytest.raises(UserError, match="torchrun --nproc-per-node 2 -m keras_convnext"):
        make_engine("data_parallel")


def test_every_process_needs_a_gpu(launched, monkeypatch):
    launched(rank=2, count=3)
    monkeypatch.setattr(processes, "on_gpu", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(UserError, match="this is process 3 on a host with 2 GPUs"):
        processes.join()


def test_a_model_in_one_process_is_left_alone(classifier):
    model = classifier()
    before = dict(vars(model))
    data_parallel(model)
    assert vars(model) == before
