import json

import pytest

from keras_convnext.errors import RunError
from keras_convnext.training.run_directory import RunDirectory

pytestmark = pytest.mark.backend_free


@pytest.fixture
def earlier(tmp_path, tiny_recipe):
    """An earlier run."""
    run = RunDirectory(tmp_path / "run")
    run.create()
    run.recipe_file.write_text(tiny_recipe().to_yaml())
    run.plan_file.write_text("{}")
    run.metrics_file.write_text('{"epoch": 1}\n{"epoch": 2}\n')
    run.classes_file.write_text(json.dumps(["a", "ä"]), encoding="utf-8")
    return run


def test_a_new_run_gets_a_directory_with_its_parents(tmp_path):
    run = RunDirectory(tmp_path / "a/b")
    run.create()
    assert run.path.is_dir() and not any(run.path.iterdir())
    assert not RunDirectory.is_run(run.path)


@pytest.mark.parametrize("path", ["empty", "link", "."])
def test_an_empty_directory_may_be_used(tmp_path, monkeypatch, path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty")
    RunDirectory(path if path == "." else tmp_path / path).create()
    assert (tmp_path / path).is_dir()


def test_an_earlier_run_is_not_replaced_unasked(earlier):
    with pytest.raises(RunError, match="There is a run in .*run already.* --overwrite"):
        earlier.create()
    assert earlier.metrics_file.exists()


def test_whether_the_place_is_taken_is_told_beforehand(earlier, tmp_path):
    RunDirectory(tmp_path / "new").refuse_taken()
    assert not (tmp_path / "new").exists()
    earlier.refuse_taken(overwrite=True)
    assert earlier.metrics_file.exists()  # nothing is removed yet
    with pytest.raises(RunError, match="There is a run in"):
        earlier.refuse_taken()


def test_an_earlier_run_is_replaced_on_request(earlier):
    earlier.report.mkdir()
    (earlier.report / "curves.png").write_text("")
    (earlier.path / "notes.txt").write_text("of no run")
    earlier.create(overwrite=True)
    assert [path.name for path in earlier.path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_directory_that_holds_no_run_is_never_touched(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="is not empty and holds no run, so nothing is written"):
        RunDirectory(tmp_path).create(overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_recipe_alone_does_not_make_a_directory_a_run(tmp_path, tiny_recipe, overwrite):
    # A folder of recipes may well hold one called recipe.yaml.
    (tmp_path / "recipe.yaml").write_text(tiny_recipe().to_yaml())
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError):
        RunDirectory(tmp_path).create(overwrite)
    assert (tmp_path / "thesis.tex").exists()


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError):
        RunDirectory(tmp_path / "run").create(overwrite=True)


def test_what_was_written_is_read_back(earlier, tiny_recipe):
    run = RunDirectory.open(earlier.path)
    assert run.recipe() == tiny_recipe()
    assert run.metrics() == [{"epoch": 1}, {"epoch": 2}]
    assert run.class_names() == ("a", "ä")


def test_a_directory_without_a_run_cannot_be_opened(tmp_path):
    with pytest.raises(RunError, match="There is no run in .*: it holds no recipe.yaml"):
        RunDirectory.open(tmp_path)
