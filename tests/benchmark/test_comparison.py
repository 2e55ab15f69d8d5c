"""Real comparisons, as small as a published network allows: images of 32 pixels."""

import keras
import pytest

from keras_convnext.benchmark.candidates import Candidate
from keras_convnext.benchmark.comparison import compare, ratios
from keras_convnext.benchmark.machine import SETTINGS, describe_machine
from keras_convnext.catalog.architectures import VARIANTS
from keras_convnext.errors import UserError


@pytest.fixture(scope="module")
def document():
    """Ours on this backend beside timm's."""
    ours = Candidate("keras_convnext", "convnext_tiny", keras.backend.backend(), "bfloat16")
    peer = Candidate("timm", "convnext_tiny", "torch", "bfloat16")
    return compare([ours, peer], batch_size=2, image_size=32, rounds=2)


@pytest.mark.slow
def test_both_are_timed_in_every_round(document):
    assert [row["project"] for row in document["results"]] == ["keras_convnext", "timm"]
    for row in document["results"]:
        for task in ("forward", "train"):
            times = row["seconds"][task]
            assert len(times) == 2 and min(times) > 0
            assert row["images_per_second"][task] == pytest.approx(2 * 2 / sum(times))
            assert row["first_call_seconds"][task] > 0
        assert row["build_seconds"] > 0


@pytest.mark.slow
def test_both_have_the_published_number_of_parameters(document):
    published = VARIANTS["convnext_tiny"].parameters
    assert [row["parameters"] for row in document["results"]] == [published, published]


@pytest.mark.slow
def test_a_train_step_holds_at_least_weights_gradients_and_two_moments(document):
    mebibytes = 4 * 4 * VARIANTS["convnext_tiny"].parameters / 2**20
    for row in document["results"]:
        assert mebibytes < row["train_memory_mib"] < 8 * mebibytes


@pytest.mark.slow
def test_the_machine_is_described(document):
    assert document["machine"]["processors"] > 0
    assert document["machine"]["packages"]["keras"] == keras.__version__


def test_settings_that_change_the_speed_are_told(monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert describe_machine()["environment"] == {"OMP_NUM_THREADS": "2"}


def test_ratios_compare_rounds_of_one_precision():
    def row(project, precision, times, memory):
        return {
            "project": project,
            "network": "n",
            "backend": "torch",
            "precision": precision,
            "seconds": {"forward": times},
            "train_memory_mib": memory,
        }

    results = [
        row("keras_convnext", "float32", [1.0, 2.0, 4.0], 50.0),
        row("keras_convnext", "bfloat16", [0.5, 1.0, 2.0], None),
        row("timm", "float32", [3.0, 4.0, 40.0], 100.0),
    ]
    assert ratios({"results": results}) == [
        {
            "ours": "keras_convnext n on torch",
            "peer": "timm n on torch",
            "precision": "float32",
            "forward": 3.0,  # the median of 3, 2 and 10
            "memory": 2.0,
        }
    ]


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("project", "network", "message"),
    [
        (
            "keras.applications",
            "ResNet51",
            "keras.applications has no 'ResNet51'. It has: .*ResNet50",
        ),
        ("timm", "resnet51", "timm has no model called 'resnet51'"),
    ],
)
def test_a_network_that_is_not_there_is_refused(project, network, message):
    candidate = Candidate(project, network, "torch", "float32")
    with pytest.raises(UserError, match=message):
        compare([candidate], batch_size=1, image_size=32, rounds=1)


@pytest.mark.backend_free
def test_what_a_failed_process_printed_is_shown():
    candidate = Candidate("keras_convnext", "convnext_tiny", "no_backend", "float32")
    with pytest.raises(RuntimeError, match=r"on no_backend failed:\n(.*\n)*.*no_backend"):
        compare([candidate], batch_size=1, image_size=32, rounds=1)
