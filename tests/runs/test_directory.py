import json

import pytest

from keras_convnext.errors import RunError
from keras_convnext.recipe.renamed import RUN_HEADER
from keras_convnext.runs.directory import RunDirectory, RunState

pytestmark = pytest.mark.backend_free


@pytest.fixture
def earlier(tmp_path, tiny_recipe):
    """An earlier run."""
    run = RunDirectory(tmp_path / "run")
    run.create(tiny_recipe())
    run.plan_file.write_text("{}")
    run.metrics_file.write_text('{"epoch": 1}\n{"epoch": 2}\n')
    run.classes_file.write_text(json.dumps(["a", "ä"]), encoding="utf-8")
    return run


def test_a_new_run_gets_a_directory_with_its_parents(tmp_path, tiny_recipe):
    run = RunDirectory(tmp_path / "a/b")
    run.create(tiny_recipe())
    assert [path.name for path in run.path.iterdir()] == ["recipe.yaml"]
    # Killed here, it is a run already, which can be resumed.
    assert RunDirectory.is_run(run.path) and not run.is_finished()


@pytest.mark.parametrize("path", ["empty", "link", "."])
def test_an_empty_directory_may_be_used(tmp_path, monkeypatch, tiny_recipe, path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty")
    RunDirectory(path if path == "." else tmp_path / path).create(tiny_recipe())
    assert (tmp_path / "empty/recipe.yaml").is_file()


def test_a_run_that_was_killed_before_its_first_file_was_whole_may_begin(tmp_path, tiny_recipe):
    (tmp_path / ".lock").touch()
    (tmp_path / ".partial-x").mkdir()
    RunDirectory(tmp_path).create(tiny_recipe())
    assert RunDirectory.is_run(tmp_path)


def test_an_earlier_run_is_not_replaced_unasked(earlier, tiny_recipe):
    with pytest.raises(RunError, match="There is a run in .*run already.* --overwrite"):
        earlier.create(tiny_recipe())
    assert earlier.metrics_file.exists()


def test_the_state_of_a_directory_is_that_of_its_run(earlier, tmp_path):
    assert RunDirectory(tmp_path / "new").state() is RunState.NEW
    assert not (tmp_path / "new").exists()
    assert earlier.state() is RunState.UNFINISHED
    earlier.finish(None)
    assert earlier.state() is RunState.FINISHED
    earlier.record_stop(2)
    assert RunDirectory(earlier.path).stopped_after() == 2
    earlier.reopen()
    assert earlier.state() is RunState.UNFINISHED and earlier.stopped_after() is None
    assert earlier.metrics_file.exists()  # nothing else is removed


def test_an_earlier_run_is_replaced_on_request(earlier, tiny_recipe):
    earlier.report.mkdir()
    (earlier.report / "curves.png").write_text("")
    earlier.checkpoints.mkdir()
    (earlier.checkpoints / "epoch_0001.keras").write_text("")
    earlier.finish(None)
    (earlier.path / "notes.txt").write_text("of no run")
    earlier.create(tiny_recipe("runtime.seed=7"), overwrite=True)
    # The plan stays until the new one replaces it, so that the directory is a run's throughout.
    assert {path.name for path in earlier.path.iterdir()} == {
        "notes.txt",
        "plan.json",
        "recipe.yaml",
    }
    assert earlier.recipe().runtime.seed == 7


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_directory_that_holds_no_run_is_never_touched(tmp_path, tiny_recipe, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="is not empty and holds no run, so nothing is written"):
        RunDirectory(tmp_path).create(tiny_recipe(), overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("first_line", "other"), [("", ""), ("", "thesis"), (RUN_HEADER, "thesis")]
)
def test_a_recipe_alone_does_not_make_a_directory_a_run(
    tmp_path, tiny_recipe, first_line, other, overwrite
):
    # A folder of recipes may well hold one called recipe.yaml, even one that a run has written.
    (tmp_path / "recipe.yaml").write_text(first_line + tiny_recipe().to_yaml())
    if other:
        (tmp_path / other).write_text("years of work")
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    with pytest.raises(RunError, match="holds no run"):
        RunDirectory(tmp_path).create(tiny_recipe("runtime.seed=7"), overwrite)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_a_file_in_the_way_is_refused(tmp_path, tiny_recipe):
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError):
        RunDirectory(tmp_path / "run").create(tiny_recipe(), overwrite=True)
    with pytest.raises(RunError), RunDirectory(tmp_path / "run").locked():
        pass


def test_two_processes_do_not_train_in_one_directory(earlier):
    with (
        earlier.locked(),
        pytest.raises(RunError, match=r"Another process is training in .*run\. Wait"),
        RunDirectory(earlier.path).locked(),
    ):
        pass
    with RunDirectory(earlier.path).locked():
        pass


def test_what_was_written_is_read_back(earlier, tiny_recipe):
    run = RunDirectory.open(earlier.path)
    assert run.recipe() == tiny_recipe()
    assert run.metrics() == [{"epoch": 1}, {"epoch": 2}]
    assert run.class_names() == ("a", "ä")


def test_a_directory_without_a_run_cannot_be_opened(tmp_path):
    with pytest.raises(RunError, match="There is no run in .*: it holds no recipe.yaml"):
        RunDirectory.open(tmp_path)


def test_a_recipe_that_this_version_cannot_read_is_named(earlier):
    earlier.recipe_file.write_text("name: x\nflavour: sweet\n")
    with pytest.raises(
        RunError, match=r"cannot be used by this version(.|\n)*flavour: unknown key"
    ):
        earlier.recipe()


@pytest.mark.parametrize("text", [None, "", '["a'])
def test_a_file_that_cannot_be_read_is_named(earlier, text):
    earlier.classes_file.unlink()
    if text is not None:
        earlier.classes_file.write_text(text)
    with pytest.raises(RunError, match=r"classes\.json cannot be read"):
        earlier.class_names()


def test_the_best_state_of_a_run_without_validation_images_is_not_known(tmp_path, tiny_recipe):
    run = RunDirectory(tmp_path)
    run.create(tiny_recipe("data.validation_split=null", "optimizer.ema_decay=0.9"))
    assert run.model("last") == run.last_model
    for state in ("best", "best_ema"):
        with pytest.raises(RunError, match="has no validation images"):
            run.model(state)
