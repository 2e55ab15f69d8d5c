"""Commands as typed in a shell. Most run in this process, to save the time of the imports."""

import io
import json
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import keras_convnext
from keras_convnext import cli, imagenet
from keras_convnext.catalog.architectures import VARIANTS
from keras_convnext.catalog.checkpoints import CHECKPOINTS, list_weights
from keras_convnext.data.sources.digits import digits
from keras_convnext.recipe.shipped import read_header, shipped_recipes
from keras_convnext.runs.directory import RunDirectory

pytestmark = pytest.mark.backend_free


@pytest.fixture
def run_command(monkeypatch, capsys):
    """Runs a command and returns its exit status, what it printed, and its notices."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["keras-convnext", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        return exit.value.code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def digit(tmp_path_factory):
    path = tmp_path_factory.mktemp("digit") / "digit.png"
    Image.fromarray(digits()[1].images[0]).save(path)
    return path


@pytest.fixture
def folder(tmp_path, write_images):
    """A data set of two classes, with names that rich would take for markup and emoji."""
    names = {}
    for part, count in (("train", 6), ("val", 2)):
        for number in range(count):
            names[f"{part}/[dark]/{number}.png"] = 20 + number
            names[f"{part}/:sun: light/{number}.jpg"] = 220 + number
    return write_images(tmp_path / f"[b]:cat:/[/x]/{'long' * 30}", names)


def test_models_are_listed(run_command):
    status, out, _ = run_command("models")
    assert status == 0
    for variant in VARIANTS.values():
        assert variant.name in out and f"{variant.parameters:,}" in out


def test_help_names_every_command(run_command):
    status, out, _ = run_command("--help")
    assert status == 0
    for command in ("train", "evaluate", "predict", "export", "models", "recipe", "weights"):
        assert command in out


@pytest.mark.parametrize(
    "command",
    [["train"], ["evaluate"], ["predict"], ["export"], ["models"], ["recipe", "check"]],
    ids=" ".join,
)
def test_every_command_has_help_with_an_example(run_command, command):
    status, out, _ = run_command(*command, "--help")
    assert status == 0
    assert "Example: keras-convnext" in out


def test_a_recipe_is_checked(run_command, recipes, tmp_path):
    path = recipes / "quickstart/digits.yaml"
    status, out, _ = run_command("recipe", "check", path, "runtime.seed=3")
    assert status == 0
    assert out == f"{path}: no errors\n"
    marked = shutil.copy(path, tmp_path / "[b]:cat:.yaml")
    assert run_command("recipe", "check", marked)[:2] == (0, f"{marked}: no errors\n")


def test_a_recipe_is_shown_as_it_can_be_read(run_command, recipes, tmp_path):
    from keras_convnext import load_recipe

    path = recipes / "quickstart/digits.yaml"
    status, out, _ = run_command("recipe", "show", path, "runtime.seed=3")
    assert status == 0
    (tmp_path / "shown.yaml").write_text(out)
    assert load_recipe(tmp_path / "shown.yaml") == load_recipe(path, ["runtime.seed=3"])


def test_recipes_are_listed(run_command):
    status, out, _ = run_command("recipe", "list")
    assert status == 0
    for name in shipped_recipes():
        line = next(line for line in out.splitlines() if f" {name} " in line)
        assert f" {read_header(name).expected} " in line
    status, out, _ = run_command("recipe", "list", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert status == 0 and set(rows) == set(shipped_recipes())
    assert rows["quickstart/digits"]["devices"].startswith("1")


def test_a_recipe_is_used_by_its_name(run_command):
    status, out, _ = run_command("recipe", "check", "imagenet1k/convnext_tiny")
    assert (status, out) == (0, "imagenet1k/convnext_tiny: no errors\n")


def test_a_recipe_is_copied(run_command, recipes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, path in (((), "digits.yaml"), (("new/mine.yaml",), "new/mine.yaml")):
        assert run_command("recipe", "copy", "quickstart/digits", *arguments)[:2] == (
            0,
            f"{path}\n",
        )
        assert (tmp_path / path).read_bytes() == (recipes / "quickstart/digits.yaml").read_bytes()
    (tmp_path / "digits.yaml").write_text("mine")
    status, out, notices = run_command("recipe", "copy", "quickstart/digits")
    assert (status, out) == (1, "") and "digits.yaml exists already" in notices
    assert (tmp_path / "digits.yaml").read_text() == "mine"


@pytest.mark.slow
def test_a_folder_is_trained_on_evaluated_and_used(run_command, recipes, folder, tmp_path):
    (folder / "train/[dark]/bad.png").write_text("no image")
    run = tmp_path / "[i]:dog:[" / "i]run"
    settings = ["model={depths: [1, 1], dims: [8, 16], patch_size: 4}", f"data.path={folder}"]
    settings += ["data.image_size=16", "data.batch_size=4", "schedule.epochs=2"]
    settings += ["schedule.warmup_epochs=1", "augment.rand_augment.operations=1"]
    settings += ["data.on_bad_image=skip"]
    recipe = recipes / "quickstart/folder.yaml"

    status, out, notices = run_command("train", recipe, *settings, "--run-dir", run)
    assert status == 0
    assert "top-1" in out and f"report: {run / 'report'}" in out
    assert f"SavedModel: {run / 'saved_model'}" in out
    assert "12 training and 4 validation images of 2 classes" in notices
    assert f"cannot be read as images: {folder / 'train/[dark]/bad.png'}." in notices
    assert "epoch 1/2" in notices and "epoch 2/2" in notices
    assert (run / "report/mistakes.png").is_file()

    (folder / "train/[dark]/bad.png").unlink()
    status, out, _ = run_command("evaluate", run, "--data", folder / "train", "--json")
    assert (status, json.loads(out)["images"]) == (0, 12)
    status, out, _ = run_command("evaluate", run, "--data", folder / "train")
    assert status == 0 and f"{folder / 'train'}\n" in out

    image = folder / "val/[dark]/0.png"
    status, out, _ = run_command("predict", run, image, "--json")
    assert status == 0
    assert set(json.loads(out)[str(image)]) == {"[dark]", ":sun: light"}
    status, out, _ = run_command("predict", run, image)
    assert status == 0
    assert f" {image} " in out and " [dark] " in out and " :sun: light " in out

    place = run / "[/b]:rose:"
    assert run_command("export", run, "--output", place)[:2] == (0, f"{place}\n")

    status, out, notices = run_command("train", recipe, *settings, "--run-dir", run)
    assert (status, out) == (1, "")
    assert "There is a run in" in notices and "it is finished" in notices
    assert "--overwrite" in notices

    (run / "results.json").unlink()
    status, out, notices = run_command("train", recipe, *settings, "--run-dir", run)
    assert status == 0 and "top-1" in out
    assert "after epoch 2 of 2" in notices and "epoch 2/2" not in notices


def test_a_run_without_validation_images_prints_what_there_is(
    run_command, recipes, tmp_path, monkeypatch
):

    finished = (RunDirectory(tmp_path / "run"), None)
    monkeypatch.setattr("keras_convnext.workflows.train", lambda *_: finished)
    status, out, _ = run_command("train", recipes / "quickstart/digits.yaml")
    assert status == 0
    assert "no validation images, so nothing is evaluated\n" in out
    assert f"report: {tmp_path / 'run/report'}" in out and "top-1" not in out


def test_a_run_is_evaluated(run_command, trained):
    run, evaluation = trained
    status, out, _ = run_command("evaluate", run.path)
    assert status == 0
    assert f"{evaluation.top(1):.2%}" in out and "360" in out


def test_figures_are_printed_as_json(run_command, trained):
    run, evaluation = trained
    status, out, _ = run_command("evaluate", run.path, "--json", "--checkpoint", "last")
    assert status == 0
    assert json.loads(out) == pytest.approx(evaluation.summary(), rel=1e-5)


def test_images_are_named(run_command, trained, digit):
    status, out, _ = run_command("predict", trained[0].path, digit, digit, "--top", 3)
    assert status == 0
    assert out.count("%") == 6


def test_predictions_are_printed_as_json(run_command, trained, digit):
    status, out, _ = run_command("predict", trained[0].path, digit, "--json", "--top", "10")
    assert status == 0
    probabilities = list(json.loads(out)[str(digit)].values())
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)


def test_predictions_are_written_to_a_file(run_command, trained, digit, tmp_path):
    table, why = tmp_path / "out.csv", tmp_path / "why"
    command = ("predict", trained[0].path, digit, digit, "--top", 1)
    status, out, _ = run_command(*command, "--output", table, "--explain", why)
    assert (status, out) == (0, f"{table}: 2 images\n")
    assert table.read_text().splitlines()[0] == "image,error,label_1,probability_1"
    assert len(list(why.iterdir())) == 2
    status, _, notices = run_command(*command, "--output", table)
    assert status == 1 and "out.csv exists already" in notices


def test_features_are_printed_or_written_but_in_no_table(run_command, trained, digit):
    status, out, _ = run_command("predict", trained[0].path, digit, "--features", "--json")
    assert status == 0 and len(json.loads(out)[str(digit)]) == 16
    status, _, notices = run_command("predict", trained[0].path, digit, "--features")
    assert status == 1 and "add --output FILE or --json" in notices


def test_of_many_predictions_a_table_shows_the_first(run_command, trained, digit, monkeypatch):
    monkeypatch.setattr("keras_convnext.cli.serving.SHOWN", 2)
    status, out, _ = run_command("predict", trained[0].path, *[digit] * 5, "--top", 1)
    assert status == 0 and out.count("%") == 2
    assert out.endswith("and 3 images more, which --output FILE would write.\n")


def test_a_run_that_can_have_no_more_epochs_says_how_to_train_on(
    run_command, trained, tmp_path, tiny_recipe
):
    run = RunDirectory(shutil.copytree(trained[0].path, tmp_path / "a run"))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(tiny_recipe("schedule.epochs=3").to_yaml())
    status, _, notices = run_command("train", recipe, "--run-dir", run.path)
    assert status == 1 and "is finished after 2 epochs" in notices
    command = shlex.split(notices.splitlines()[-1])
    assert command[0] == "keras-convnext"
    status, _, notices = run_command(*command[1:], "export.saved_model=false")
    assert status == 0
    more = RunDirectory(f"{run.path}_more")
    assert more.is_finished() and len(more.metrics()) == 1
    assert more.recipe().init.weights == str(run.last_model)


def test_a_tilde_is_the_home_directory(run_command, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(trained[0].path, tmp_path / "run")
    status, out, _ = run_command("export", "~/run", "--output", "~/served/1")
    assert (status, out) == (0, f"{tmp_path}/served/1\n")
    status, _, notices = run_command("evaluate", "~/run", "--data", "~/nowhere")
    assert status == 1 and f"There is no folder {tmp_path}/nowhere" in notices
    assert run_command("weights", "get", "~/run")[:2] == (0, f"{tmp_path}/run/last.keras\n")


def test_a_folder_of_images_is_predicted_without_its_bad_files(
    run_command, trained, write_images, tmp_path
):
    folder = write_images(tmp_path / "photos", {"a.png": 60, "trip/b.jpg": 200})
    (folder / "notes.txt").write_text("Paris, in May")
    status, out, notices = run_command("predict", trained[0].path, folder, "--json")
    assert (status, out) == (1, "")
    assert "notes.txt cannot be read as an image" in notices
    status, out, notices = run_command(
        *("predict", trained[0].path, folder, "--json", "--on-bad-image", "skip")
    )
    assert status == 0
    assert list(json.loads(out)) == [str(folder / "a.png"), str(folder / "trip/b.jpg")]
    assert "Left out 1 image of 3" in notices and "notes.txt" in notices


def test_a_run_is_exported(run_command, trained, tmp_path):
    status, out, _ = run_command("export", trained[0].path, "--output", tmp_path / "served")
    assert (status, out) == (0, f"{tmp_path / 'served'}\n")
    assert (tmp_path / "served/saved_model.pb").is_file()


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("train nowhere.yaml", "There is no recipe nowhere.yaml."),
        ("train quickstart/digit", "Did you mean 'quickstart/digits'?"),
        ("recipe copy quickstart/digit", "Did you mean 'quickstart/digits'?"),
        ("recipe copy {digits}", "There is no recipe called '"),
        ("train no[/x]:dog:.yaml", "There is no recipe no[/x]:dog:.yaml."),
        ("recipe check {markup} flavour=1", "/:cat:[b].yaml: 1 error"),
        ("evaluate [b]:cat:[/b]", "[b]:cat:[/b] is neither the directory of a run"),
        ("weights get [b]:cat:[/b]", "'[b]:cat:[/b]' is neither a file"),
        ("train {digits} schedule.epochs", "An override must have the form section.key=value"),
        ("train {digits} schedule.epoch=1", "Did you mean 'epochs'?"),
        ("train {digits} runtime.backend=jax", "The backend should be 'jax', but"),
        ("train {digits} --run-dir {home}", "is not empty and holds no run"),
        ("train {folder} data.path=nowhere", "/nowhere. A data set of images is a folder"),
        ("recipe check {digits} data.batch_size=0", "data.batch_size: Input should be greater"),
        ("recipe show {home}", "cannot be read"),
        ("evaluate nowhere", "nowhere is neither the directory of a run, nor a .keras file"),
        ("evaluate {run} --data nowhere", "There is no folder nowhere"),
        ("evaluate {run} --data tfds:none --split test", "tfds build none --data_dir="),
        ("evaluate {run} --split test", "`split` goes with `data`"),
        ("evaluate {run} --checkpoint worst", "`checkpoint` must be one of last, best"),
        ("evaluate {run} --on-bad-image maybe", "(--on-bad-image) must be one of error, skip"),
        ("export {run} --on-bad-image maybe", "(--on-bad-image) must be one of error, skip"),
        ("evaluate {run}/last.keras", "data"),
        ("predict {run} nowhere.png", "There is no file nowhere.png"),
        ("predict {run} {digits}", "digits.yaml cannot be read as an image"),
        (
            "predict {run} {image} --on-bad-image omit",
            "must be one of error, skip. Received: 'omit'",
        ),
        ("predict {digits} {image}", "digits.yaml is neither the directory of a run"),
        ("predict {text} {image}", "text.keras"),
        ("export {run}", "exists already"),
        ("export {run} --format pb", "must be one of saved_model, onnx, openvino"),
        ("export {run} --precision int8", "for int8 take onnx or openvino"),
        ("export {run}/last.keras", "needs `path`"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    run_command, trained, recipes, digit, tmp_path, command, sentence
):
    (tmp_path / "text.keras").write_text("no model")
    places = {
        "run": trained[0].path,
        "digits": recipes / "quickstart/digits.yaml",
        "folder": recipes / "quickstart/folder.yaml",
        "home": tmp_path,
        "text": tmp_path / "text.keras",
        "image": digit,
        "markup": shutil.copy(recipes / "quickstart/digits.yaml", tmp_path / ":cat:[b].yaml"),
    }
    status, out, notices = run_command(*command.format(**places).split())
    assert (status, out) == (1, "")
    assert sentence in notices
    assert "Traceback" not in notices


@pytest.mark.parametrize(
    "command",
    [
        *("evaluate", "predict RUN", "predict RUN x.png --top 0", "paint", "train --fast x"),
        *("[/x]:dog:", "predict RUN x.png --top [/x]", "train --[/x]"),
    ],
)
def test_a_command_typed_wrongly_has_another_status(run_command, command):
    status, _, notices = run_command(*command.split())
    assert status == 2
    assert "Usage" in notices


def test_a_run_directory_that_is_a_file_is_refused(run_command, recipes, tmp_path):
    (tmp_path / "run").write_text("")
    recipe = recipes / "quickstart/digits.yaml"
    status, _, notices = run_command("train", recipe, "--run-dir", tmp_path / "run")
    assert status == 1
    assert str(tmp_path / "run") in notices


def test_the_command_runs_on_its_own(trained, digit):
    """In a process of its own, as from a shell: nothing but the result on the output stream."""
    process = subprocess.run(
        [sys.executable, "-m", "keras_convnext", "predict", trained[0].path, digit, "--json"],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0
    assert len(json.loads(process.stdout)[str(digit)]) == 5
    assert process.stderr == ""


def test_nothing_but_a_sentence_is_printed_for_a_missing_run(tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "keras_convnext", "evaluate", tmp_path],
        capture_output=True,
        text=True,
    )
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr.startswith(f"{tmp_path} is neither the directory of a run")
    assert len(process.stderr.splitlines()) == 1


class TestWeights:
    def test_every_checkpoint_is_listed(self, run_command):
        status, out, _ = run_command("weights", "list")
        assert status == 0
        for row in CHECKPOINTS.values():
            line = next(line for line in out.splitlines() if f" {row.name} " in line)
            assert row.file in line and (row.hub or "") in line and f"{row.top_1 or ''}" in line

    def test_those_of_one_model_as_json(self, run_command):
        status, out, _ = run_command("weights", "list", "--model", "convnext_base", "--json")
        rows = json.loads(out)
        assert status == 0
        assert [row["name"] for row in rows] == list_weights("convnext_base")
        assert rows[0]["url"] == CHECKPOINTS["convnext_base.fb_in1k"].url

    def test_a_model_that_is_not_there_is_refused(self, run_command):
        status, _, notices = run_command("weights", "list", "--model", "convnext_bse")
        assert status == 1
        assert "Did you mean 'convnext_base'?" in notices

    def test_a_file_is_converted_and_found(self, run_command, tmp_path):
        model = keras_convnext.ConvNeXt((1, 1), (4, 8), classes=3)
        source = keras_convnext.save_weights(model, tmp_path / "a[x].pth", format="official")
        for name, options in (("[b].safetensors", ["--format", "timm"]), (":cat:.keras", [])):
            status, out, _ = run_command("weights", "convert", source, tmp_path / name, *options)
            assert (status, out.strip()) == (0, str(tmp_path / name))
            again = keras_convnext.model_from_weights(tmp_path / name)
            for one, other in zip(again.get_weights(), model.get_weights(), strict=True):
                np.testing.assert_array_equal(one, other)
        status, out, _ = run_command("weights", "get", tmp_path / "[b].safetensors")
        assert (status, out.strip()) == (0, str(tmp_path / "[b].safetensors"))

    def test_what_cannot_be_had_is_said(self, run_command, tmp_path):
        status, _, notices = run_command("weights", "get", "convnext_tiny.fb_in3k")
        assert status == 1
        assert "nor a published checkpoint. There are: convnext_tiny.fb_in1k, " in notices


def test_a_published_checkpoint_names_what_an_image_shows(run_command, published, digit):
    status, out, _ = run_command("predict", published, digit, "--top", "5", "--json")
    assert status == 0
    (best,) = json.loads(out).values()
    assert len(best) == 5
    assert set(best) < set(imagenet.class_names())


@pytest.mark.slow
def test_benchmark_compares_networks_and_writes_a_report(run_command, tmp_path):
    status, out, _ = run_command(
        *("benchmark", "--backend", "torch", "--precision", "float32", "--task", "forward"),
        *("--peer", "transformers", "--compare", "timm:convnext_tiny@48", "--image-size", 32),
        *("--batch-size", 1, "--rounds", 1, "--output", tmp_path / "report"),
    )
    assert status == 0
    for label in ("keras_convnext convnext_tiny on torch", "transformers", "timm convnext_tiny"):
        assert label in out
    document = json.loads((tmp_path / "report/benchmark.json").read_text())
    assert len(document["results"]) == 3
    assert (tmp_path / "report/benchmark.png").exists()


def test_benchmark_refuses_an_unknown_task_before_it_starts_anything(run_command):
    status, _, err = run_command("benchmark", "--task", "backward")
    assert status == 1
    assert "--task must be one of forward, train. Received: 'backward'." in err


def test_a_terminal_need_not_know_every_letter(monkeypatch, tmp_path):
    (tmp_path / "größe.yaml").write_text("name: [x", encoding="utf-8")
    written = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, file in written.items():
        monkeypatch.setattr(sys, name, io.TextIOWrapper(file, encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["keras-convnext", "recipe", "check", "größe.yaml"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        cli.main()
    (tmp_path / "größe.yaml").write_text(
        "name: a\nmodel: {name: convnext_tiny}\ndata: {source: digits}\nschedule: {}\n"
    )
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 0
    sys.stdout.flush()
    sys.stderr.flush()
    assert written["stdout"].getvalue().decode("ascii") == "gr\\xf6\\xdfe.yaml: no errors\n"
    assert "gr\\xf6\\xdfe.yaml is not valid YAML" in written["stderr"].getvalue().decode("ascii")
