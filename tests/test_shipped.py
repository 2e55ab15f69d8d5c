"""The recipes that come with the package: found by name, also after an installation."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from keras_convnext import load_recipe
from keras_convnext.errors import RecipeError
from keras_convnext.recipe.shipped import read_header, shipped_recipes, similar_name

pytestmark = pytest.mark.backend_free
ROOT = Path(__file__).parents[1]
BUILT_FROM = ["pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"]


def test_every_recipe_has_a_name(recipes):
    paths = set(recipes.rglob("*.yaml"))
    assert set(shipped_recipes().values()) == paths
    assert shipped_recipes()["quickstart/digits"] == recipes / "quickstart/digits.yaml"


def test_a_recipe_is_loaded_by_its_name(recipes):
    by_name = load_recipe("imagenet1k/convnext_tiny", ["runtime.seed=3"])
    assert by_name == load_recipe(recipes / "imagenet1k/convnext_tiny.yaml", ["runtime.seed=3"])


def test_a_file_comes_before_a_name(tmp_path, monkeypatch, recipes):
    monkeypatch.chdir(tmp_path)
    Path("quickstart/digits").mkdir(parents=True)  # a folder is not a recipe
    assert load_recipe("quickstart/digits").name == "digits"
    Path("quickstart/digits").rmdir()
    text = (recipes / "quickstart/digits.yaml").read_text()
    Path("quickstart/digits").write_text(text.replace("name: digits", "name: mine"))
    assert load_recipe("quickstart/digits").name == "mine"


@pytest.mark.parametrize(
    ("wrong", "similar"),
    [
        ("quickstart/digit", "quickstart/digits"),
        ("digits", "quickstart/digits"),
        ("recipes/quickstart/digits.yaml", "quickstart/digits"),
        ("imagenet1k/convnext-tiny", "imagenet1k/convnext_tiny"),
        ("qqq", None),
    ],
)
def test_an_unknown_name_is_refused_with_a_similar_one(wrong, similar, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert similar_name(wrong) == similar
    with pytest.raises(RecipeError, match=f"There is no recipe {wrong}.") as caught:
        load_recipe(wrong)
    assert (f"Did you mean {similar!r}?" in str(caught.value)) == (similar is not None)
    assert "`keras-convnext recipe list`" in str(caught.value)


def test_a_header_is_read():
    header = read_header("imagenet1k/convnext_tiny")
    assert header.trains == "ConvNeXt-T on ImageNet-1K from scratch at 224x224"
    assert header.expected == "82.1% top-1 of the EMA weights"
    assert header.source.startswith("the paper's table 1 (accuracy); its table 5")
    assert header.devices == "1 (32 GPUs in the official command)"
    # A field may go on on the next line.
    assert read_header("resnet50/torchvision").source.endswith("TorchVision's Latest Primitives\"")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a source distribution, without a network."""
    pytest.importorskip("setuptools", minversion="77")
    place = tmp_path_factory.mktemp("build")
    tree = place / "tree"
    tree.mkdir()
    for name in BUILT_FROM:
        shutil.copy(ROOT / name, tree)
    for name in ("keras_convnext", "recipes"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    build(tree, "build_sdist", place)
    (archive,) = place.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(place, filter="data")
    build(place / archive.name.removesuffix(".tar.gz"), "build_wheel", place)
    (path,) = place.glob("*.whl")
    return path


def build(tree, what, place):
    script = f"from setuptools import build_meta; build_meta.{what}({str(place)!r})"
    process = subprocess.run(
        [sys.executable, "-c", script], cwd=tree, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr


def test_a_wheel_has_every_recipe(wheel, recipes, tmp_path):
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "installed")
    installed = tmp_path / "installed/keras_convnext/recipes"
    names = {path.relative_to(recipes) for path in recipes.rglob("*.yaml")}
    assert {path.relative_to(installed) for path in installed.rglob("*.yaml")} == names
    assert not (tmp_path / "installed/recipes").exists()

    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    process = subprocess.run(
        [sys.executable, "-m", "keras_convnext", "recipe", "copy", "quickstart/digits"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (process.stdout, process.returncode) == ("digits.yaml\n", 0), process.stderr
    shipped = recipes / "quickstart/digits.yaml"
    assert (tmp_path / "digits.yaml").read_bytes() == shipped.read_bytes()
