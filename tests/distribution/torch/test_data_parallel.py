"""Training in several processes on PyTorch, compared with one process."""

import contextlib
import os
import pickle
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

if keras.backend.backend() != "torch":
    pytest.skip("this is PyTorch's distribution", allow_module_level=True)

import torch_processes
from torch_processes import CLASSES, SIZE, STEP_BATCH, STEPS, Checks, names_of_checks

from keras_convnext.data.pipeline import training_dataset
from keras_convnext.data.sources.split import ArraySplit
from keras_convnext.distribution.engine import Engine
from keras_convnext.recipe import Augment, Data

pytestmark = pytest.mark.slow

PROCESSES = (2, 4)
SECONDS = 600  # a start takes some 10 on an idle machine

several = pytest.mark.parametrize("processes", PROCESSES)
every_check = pytest.mark.parametrize("check", sorted({*names_of_checks(Checks)} - {"saving"}))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of every check: `results[processes][rank][check]`."""
    folder = tmp_path_factory.mktemp("processes")
    for processes in (1, *PROCESSES):
        for rank in range(processes):
            write_batches(folder, rank, processes)
    with contextlib.ExitStack() as stack:
        groups = {one: stack.enter_context(started(folder, one)) for one in PROCESSES}
        found = {1: [torch_processes.run_checks(Checks(Engine(), folder))]}
        for processes, children in groups.items():
            output, _ = children.communicate(timeout=SECONDS)
            assert children.returncode == 0, output
            files = [folder / f"results_{processes}_{rank}.pkl" for rank in range(processes)]
            found[processes] = [pickle.loads(file.read_bytes()) for file in files]
    return found


def write_batches(folder, rank, processes):
    """Writes a process's share of steps mixed by Mixup and CutMix."""
    images = np.random.default_rng(0).integers(0, 256, (40, SIZE, SIZE, 3), dtype="uint8")
    labels = np.arange(40, dtype="int32") % CLASSES
    batches = training_dataset(
        ArraySplit(images, labels, tuple("abcdefgh")),
        Data(source="folder", path=".", image_size=SIZE, batch_size=2 * STEP_BATCH),
        Augment(rand_augment=None),
        epochs=STEPS * STEP_BATCH // 32,
        seed=3,
        step_batch_size=STEP_BATCH,
        shard_index=rank,
        num_shards=processes,
    )
    images, targets = zip(*batches.as_numpy_iterator(), strict=True)
    assert len(images) == STEPS
    np.savez(
        folder / f"batches_{processes}_{rank}.npz",
        images=np.concatenate(images),
        targets=np.concatenate(targets),
    )


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@contextlib.contextmanager
def started(folder, processes):
    script = [torch_processes.__file__, str(folder)]
    arguments = [*TORCHRUN, *script] if processes == 2 else [*script, str(processes)]
    with subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as children:
        try:
            yield children
        finally:
            children.terminate()


def assert_close(found, expected, tolerance):
    """Compares nested results."""
    keras.tree.map_structure(
        lambda one, other: np.testing.assert_allclose(
            np.asarray(one), np.asarray(other), rtol=tolerance, atol=tolerance
        ),
        found,
        expected,
    )


@several
@every_check
def test_results_are_those_of_one_process(results, processes, check):
    # In half precision the rounding of a mean depends on how many numbers it is of.
    tolerance = 1e-2 if check == "loss_scaling" else 1e-5
    for result in results[processes]:
        assert_close(result[check], results[1][0][check], tolerance)


@several
@every_check
def test_all_processes_have_the_same_results(results, processes, check):
    first, *others = results[processes]
    for other in others:
        assert_close(other[check], first[check], 0)


def test_metrics_of_a_whole_evaluation_have_several_numbers(results):
    epochs = results[1][0]["everything"]["epochs"]
    assert np.shape(epochs["val_f1_score"]) == np.shape(epochs["val_ema_f1_score"]) == (1, CLASSES)


def test_an_overflow_in_one_process_is_skipped_in_all(results):
    for result in (result for found in results.values() for result in found):
        found = result["loss_scaling"]
        assert found["scale"] == 2.0**14  # once halved from Keras's first scale
        assert found["steps"] == 1  # five of six steps count
        assert all(np.isfinite(weight).all() for weight in found["weights"])


@several
def test_gradients_are_sent_once_an_update(results, processes):
    for result in results[processes]:
        found = result["gradients_sent"]
        inner, update = found["sent"]
        assert inner == [found["metrics"]]
        assert sum(update) == found["gradients"] + found["metrics"]


@several
def test_a_model_in_training_is_saved_and_copied_as_always(results, processes):
    for result in [*results[1], *results[processes]]:
        assert result["saving"] == {"same": [True] * 3, "config": True, "left": []}


@several
def test_a_detached_model_is_trained_alone(results, processes):
    first, *others = results[processes]
    assert first["detached"]["left"] == []
    for other in others:
        assert_close(other["detached"]["together"], first["detached"]["together"], 0)
        with pytest.raises(AssertionError):
            assert_close(other["detached"]["alone"], first["detached"]["alone"], 1e-3)


@several
def test_the_statistics_of_the_first_process_are_evaluated(results, processes):
    first, *others = [result["statistics"] for result in results[processes]]
    for before, after in others:
        assert np.abs(before - first[0]).max() > 1e-6
        assert_close(after, first[0], 0)


@several
def test_values_pass_between_processes(results, processes):
    for rank, result in enumerate(results[processes]):
        assert result["between_processes"] == {
            "broadcast": {"of": (0, None)},
            "gathered": list(range(processes)),
            "copied": 0.0,
            "training": (rank, processes),
            "evaluation": (rank, processes),
            "words": f"CPUs in {processes} processes with 1 thread each",
        }


@several
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("unused weight", "does not depend on these weights.*unused.*find_unused_parameters=True"),
        ("train step", "does not call the model itself"),
        ("other model", "must create the same model"),
        ("compiled", "jit_compile=False"),
    ],
)
def test_what_cannot_be_trained_is_said_in_every_process(results, processes, what, message):
    for result in results[processes]:
        assert re.search(message, result["messages"][what])
