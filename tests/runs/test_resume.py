import json

import pytest

from keras_convnext import runtime
from keras_convnext.errors import RunError
from keras_convnext.runs import resume
from keras_convnext.runs.directory import RunDirectory
from keras_convnext.runs.paths import with_absolute_paths
from keras_convnext.runs.plan import make_plan

pytestmark = pytest.mark.backend_free


@pytest.fixture
def stopped(tmp_path, tiny_recipe):
    """A run of 640 images of two classes that was stopped after an epoch."""
    run = RunDirectory(tmp_path / "run")
    run.create(tiny_recipe())
    make_plan(tiny_recipe(), 640, 5, 2).write(run.plan_file)
    run.classes_file.write_text(json.dumps(["a", "b"]))
    run.environment_file.write_text(json.dumps(runtime.describe()))
    run.checkpoints.mkdir()
    (run.checkpoints / "epoch_0001.keras").write_text("")
    return run


class TestRecipe:
    def test_the_same_recipe_is_accepted(self, stopped, tiny_recipe):
        resume.check_same_recipe(stopped, tiny_recipe())

    def test_what_is_kept_and_exported_may_change(self, stopped, tiny_recipe):
        resume.check_same_recipe(
            stopped, tiny_recipe("export.saved_model=false", "checkpoint.keep=1")
        )

    def test_every_key_that_differs_is_named_with_both_values(self, stopped, tiny_recipe):
        stopped.write_recipe(tiny_recipe("augment.rand_augment.operations=2"))
        changed = tiny_recipe("model.drop_path_rate=0.2", "data.batch_size=32")
        with pytest.raises(RunError) as raised:
            resume.check_same_recipe(stopped, changed)
        lines = str(raised.value).splitlines()
        assert lines[0].startswith("There is an unfinished run of another recipe in ")
        assert "  model.drop_path_rate: 0.1 in the run, 0.2 now" in lines
        assert "  data.batch_size: 256 in the run, 32 now" in lines
        assert "  augment.rand_augment.operations: 2 in the run, nothing now" in lines
        assert len([line for line in lines if line.startswith("  ")]) == 8
        assert "--run-dir" in lines[-1] and "--overwrite" in lines[-1]

    def test_a_relative_path_is_the_same_as_the_absolute_one(
        self, stopped, tiny_recipe, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        folder = "data={{source: folder, path: {}, image_size: 16}}"
        absolute = with_absolute_paths(tiny_recipe(folder.format("images")))
        stopped.write_recipe(tiny_recipe(folder.format("images")))  # as earlier versions did
        resume.check_same_recipe(stopped, absolute)
        monkeypatch.chdir("/")
        with pytest.raises(RunError, match=r'data\.path: "/images" in the run, '):
            resume.check_same_recipe(stopped, absolute)

    def test_the_length_may_change_where_it_changes_nothing_before(self, stopped, tiny_recipe):
        longer = ("schedule.epochs=9", "schedule.early_stopping=3")
        resume.check_same_recipe(stopped, tiny_recipe("schedule.early_stopping=3"))
        with pytest.raises(RunError, match=r"schedule\.epochs: 2 in the run, 9 now"):
            resume.check_same_recipe(stopped, tiny_recipe(*longer))
        stopped.write_recipe(tiny_recipe("schedule.name=step"))
        resume.check_same_recipe(stopped, tiny_recipe("schedule.name=step", *longer))
        stopped.metrics_file.write_text('{"epoch": 1}\n{"epoch": 2}\n')
        shorter = ("schedule.epochs=1", "schedule.warmup_epochs=1e-3")
        stopped.write_recipe(tiny_recipe("schedule.name=step", shorter[1]))
        with pytest.raises(RunError, match=r"has trained 2 epochs, more than schedule\.epochs"):
            resume.check_same_recipe(stopped, tiny_recipe("schedule.name=step", *shorter))

    def test_one_that_this_version_cannot_read_is_refused(self, stopped, tiny_recipe):
        text = stopped.recipe_file.read_text()
        stopped.recipe_file.write_text(text + "flavour: sweet\n")
        with pytest.raises(
            RunError, match=r"flavour: unknown key(.|\n)*cannot be resumed.*--overwrite"
        ):
            resume.check_same_recipe(stopped, tiny_recipe())


class TestData:
    def refused(self, run, recipe, images=640, classes=("a", "b")):
        plan = make_plan(recipe, images, 5, len(classes))
        with pytest.raises(RunError, match=r"data set has changed since .*:\n") as raised:
            resume.check_same_data(run, plan, classes)
        assert "--overwrite" in str(raised.value)
        return str(raised.value)

    def test_the_same_data_is_accepted(self, stopped, tiny_recipe):
        resume.check_same_data(stopped, make_plan(tiny_recipe(), 640, 5, 2), ("a", "b"))

    def test_before_anything_was_learned_it_may_change(self, stopped, tiny_recipe):
        (stopped.checkpoints / "epoch_0001.keras").unlink()
        resume.check_same_data(stopped, make_plan(tiny_recipe(), 999, 5, 2), ("a", "x"))

    def test_other_numbers_are_refused(self, stopped, tiny_recipe):
        message = self.refused(stopped, tiny_recipe(), images=641)
        assert "training images: 640 in the run, 641 now" in message

    def test_other_classes_are_refused(self, stopped, tiny_recipe):
        message = self.refused(stopped, tiny_recipe(), classes=("a", "c", "d"))
        assert "no longer there: class b" in message and "new: class c, d" in message
        assert "another order" in self.refused(stopped, tiny_recipe(), classes=("b", "a"))


class TestEnvironment:
    def test_another_backend_is_refused(self, stopped):
        with pytest.raises(
            RunError, match=r"started on tensorflow, and .* jax now(.|\n)*overwrite"
        ):
            resume.check_same_backend(stopped, {**runtime.describe(), "backend": "jax"})

    def test_other_versions_are_told(self, stopped, capsys):
        resume.check_same_backend(stopped, runtime.describe())
        assert capsys.readouterr().err == ""
        now = runtime.describe()
        before = now["packages"]["keras"]
        now["packages"] = {**now["packages"], "keras": "9.9"}
        resume.check_same_backend(stopped, now)
        assert f"keras {before} in the run, 9.9 now" in capsys.readouterr().err
