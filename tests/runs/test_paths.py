import os

import pytest

from keras_convnext import load_recipe
from keras_convnext.files import expanded
from keras_convnext.runs.directory import RunDirectory
from keras_convnext.runs.paths import with_absolute_paths

pytestmark = pytest.mark.backend_free

FOLDER = "data={{source: folder, path: {}, image_size: 16}}"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("photos", "{here}/photos"),
        ("../photos", "{above}/photos"),
        ("~/photos", "{home}/photos"),
        ("/mnt/photos", "/mnt/photos"),
        ("gs://bucket/photos", "gs://bucket/photos"),
    ],
)
def test_the_path_of_the_images_becomes_absolute(tiny_recipe, home, given, kept):
    recipe = with_absolute_paths(tiny_recipe(FOLDER.format(given)))
    here = os.getcwd()
    assert recipe.data.path == kept.format(here=here, above=os.path.dirname(here), home=home)
    assert with_absolute_paths(recipe) == recipe


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("first/last.keras", "{here}/first/last.keras"),
        ("~/last.keras", "{home}/last.keras"),
        ("convnext_tiny.fb_in1k", "convnext_tiny.fb_in1k"),
        ("hf://timm/convnext_tiny.fb_in1k", "hf://timm/convnext_tiny.fb_in1k"),
        ("https://example.org/a.pth", "https://example.org/a.pth"),
    ],
)
def test_a_file_of_weights_becomes_absolute_and_a_name_stays(tiny_recipe, home, given, kept):
    recipe = with_absolute_paths(tiny_recipe(f"init.weights={given}"))
    assert recipe.init.weights == kept.format(here=os.getcwd(), home=home)


def test_a_recipe_without_paths_stays_as_it_is(tiny_recipe):
    assert with_absolute_paths(tiny_recipe()) == tiny_recipe()


def test_home_may_be_written_as_a_tilde(home, tiny_recipe):
    home.mkdir()
    assert expanded("~/x") == home / "x" and expanded("x~") == expanded("./x~")
    RunDirectory("~/run").create(tiny_recipe())
    assert (home / "run/recipe.yaml").is_file() and RunDirectory.is_run("~/run")
    assert load_recipe("~/run/recipe.yaml") == tiny_recipe()
