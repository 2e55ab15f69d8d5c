"""The predictions of docs/scaling.md: their formulas, and that the committed ones are current."""

import json
import runpy
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.backend_free

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def scaling():
    """The names that benchmarks/scaling.py defines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield runpy.run_path(str(BENCHMARKS / "scaling.py"))
        sys.modules.pop("common", None)


def assert_close(found, wanted):
    """Compares two JSON documents, numbers to rounding."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        wanted, found = list(wanted.values()), list(found.values())
    if isinstance(wanted, list):
        for one, other in zip(found, wanted, strict=True):
            assert_close(one, other)
    else:
        assert found == (pytest.approx(wanted) if isinstance(wanted, float) else wanted)


def test_the_committed_predictions_are_those_of_the_script(scaling):
    assert_close(
        scaling["predict"](), json.loads((BENCHMARKS / "results/scaling.json").read_text())
    )


def test_gradients_are_as_many_as_parameters(scaling):
    assert scaling["gradient_bytes"]("tiny") == 4 * 28_589_128


def test_a_ring_sends_all_but_one_piece_twice(scaling):
    # Four members with 8 GB at 80% of 1 GB/s: six pieces of 2 GB, and six messages.
    assert scaling["ring_seconds"](8e9, 4, 1e9) == pytest.approx(6 * 2 / 0.8 + 6 * 10e-6)
    assert scaling["ring_seconds"](8e9, 1, 1e9) == 0


def test_hosts_are_joined_by_the_network(scaling):
    all_reduce, ring = scaling["all_reduce_seconds"], scaling["ring_seconds"]
    assert all_reduce(1e9, 8, links=1) == ring(1e9, 8, 450e9)
    assert all_reduce(1e9, 32, links=1) == ring(1e9, 8, 450e9) + ring(1e9, 4, 50e9)
    assert all_reduce(1e9, 32, links=8) == ring(1e9, 8, 450e9) + ring(1e9, 4, 400e9)


def test_only_the_backward_pass_hides_communication(scaling):
    efficiency = scaling["efficiency"]
    assert efficiency(3.0, 1.0, overlapped=False) == 0.75
    assert efficiency(3.0, 2.0, overlapped=True) == 1.0
    assert efficiency(3.0, 3.0, overlapped=True) == 0.75


def test_the_global_batch_is_divided_among_the_gpus(scaling):
    one, many = (scaling["of_layout"]("base", gpus, "global", 1) for gpus in (8, 128))
    assert (one["images_per_gpu"], many["images_per_gpu"]) == (512, 32)
    assert one["compute_seconds"] == pytest.approx(16 * many["compute_seconds"])


def test_a_training_step_is_three_times_the_papers_inference(scaling):
    assert scaling["training_rate"]("tiny", "A100") == pytest.approx(1943.5 / 3)
    operations = 6 * 4.456e9
    assert scaling["training_rate"]("tiny", "assumed") == pytest.approx(100e12 / operations)
