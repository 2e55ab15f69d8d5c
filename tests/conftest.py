"""What all tests share. One process tests one backend, the one KERAS_BACKEND names."""

import os
from pathlib import Path
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# PyTorch's idle OpenMP threads would spin on the cores that tf.data needs: ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import keras  # before TensorFlow: under PyTorch, torch has to be imported first
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_convnext.benchmark.torchvision_operations import make_torchvision_importable
from keras_convnext.recipe import load_recipe

make_torchvision_importable()


SLOWEST_FILES = (
    "test_workflows.py",
    "test_docs.py",
    "test_recipes.py",
    "test_killed_runs.py",
    "test_second_task.py",
    "test_norm_mlp.py",
    "test_quantization.py",
    "test_depthwise_conv2d.py",
    "test_pipeline.py",
    "test_cli.py",
    "test_examples.py",
    "test_engines.py",
    "test_comparison.py",
    "test_every_kill.py",
    "test_ray_scoring.py",
    "test_whole_runs.py",
    "test_faults.py",
    "test_data_parallel.py",
)


def pytest_configure(config):
    config.addinivalue_line("markers", "golden: compares text with a file under tests/golden")


def pytest_collection_modifyitems(items):
    """Begins with the slowest files, lest a process be left alone with one at the end."""
    places = {name: place for place, name in enumerate(SLOWEST_FILES)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def pytest_report_header():
    return f"Keras {keras.__version__} on {keras.backend.backend()}"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keeps what the tests put into the package's cache away from the person's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras_home")))
        yield


@pytest.fixture(scope="session", autouse=True)
def tensorflow_seed():
    tf.random.set_seed(0)


@pytest.fixture(autouse=True)
def fixed_seed():
    # TensorFlow's seed is set once: setting it throws away every function compiled so far.
    with mock.patch.object(tf.random, "set_seed"):
        keras.utils.set_random_seed(0)


@pytest.fixture
def toy():
    """Sizes of a network small enough for every test; layer scale is large enough to matter."""
    return {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32), "layer_scale_init_value": 0.5}


GOLDEN = Path(__file__).parent / "golden"
RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.fixture(scope="session")
def recipes() -> Path:
    """The folder of the recipes that ship with the repository."""
    return RECIPES


@pytest.fixture(scope="session")
def matches_golden():
    """Compares text with a file under tests/golden/; UPDATE_GOLDEN=1 writes it instead."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if os.environ.get("UPDATE_GOLDEN") == "1":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), f"UPDATE_GOLDEN=1 rewrites {name}"

    return compare


@pytest.fixture(scope="session")
def write_images():
    """Writes `{"train/cat/1.png": value}` below a folder, each an image of noise about a value."""

    def write(root: Path, values: dict[str, int], size: tuple[int, int] = (20, 16)) -> Path:
        for name, value in values.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(value).integers(-8, 8, (*size, 3))
            Image.fromarray(np.clip(value + noise, 0, 255).astype("uint8")).save(path)
        return root

    return write


@pytest.fixture(scope="session")
def tiny_recipe():
    """The digits recipe cut down to seconds: a network of two blocks, few steps."""

    def load(*overrides: str):
        settings = ["model.depths=[2]", "model.dims=[16]", "model.kernel_size=3"]
        settings += ["data.image_size=16", "data.batch_size=256"]  # few steps take less time
        settings += ["augment.rand_augment=null"]  # whose graph takes seconds to build
        settings += ["schedule.epochs=2", "schedule.warmup_epochs=1"]
        return load_recipe(RECIPES / "quickstart/digits.yaml", [*settings, *overrides])

    return load


@pytest.fixture(scope="session")
def trained(tiny_recipe, tmp_path_factory):
    """A run of the tiny recipe with all that a run leaves behind, and its evaluation."""
    from keras_convnext import train

    return train(tiny_recipe(), tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture
def published(monkeypatch, tmp_path_factory):
    """Lets a published checkpoint's name stand for a small file in timm's form; returns the name.

    Its classifier tells the 1000 classes of ImageNet apart, at random.
    """
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = timm.models.convnext.ConvNeXt(depths=(1, 1, 1, 1), dims=(4, 8, 12, 16))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    path = tmp_path_factory.mktemp("published") / "model.safetensors"
    save_file(network.state_dict(), path)
    name = "convnext_tiny.fb_in1k"
    monkeypatch.setattr(
        "keras_convnext.weights.weight_file.fetch", lambda source: {name: path}[str(source)]
    )
    return name


@pytest.fixture(scope="session")
def classifier():
    """Builds a small classifier of seven classes for images of 16x16 pixels."""

    from keras_convnext import ConvNeXt

    def build(activation=None):
        keras.utils.set_random_seed(1)
        return ConvNeXt(
            (1, 1),
            (8, 16),
            kernel_size=3,
            input_shape=(16, 16, 3),
            classes=7,
            classifier_activation=activation,
            layer_scale_init_value=0.5,
            head_init_scale=50,  # so that the classes' probabilities differ
        )

    return build
