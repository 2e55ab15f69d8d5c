"""examples/cluster/score_with_ray.py: on two workers of Ray, killed and resumed; and its parts."""

import argparse
import collections
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from keras_convnext import Predictor
from keras_convnext.errors import DataError, UserError

pytestmark = pytest.mark.backend_free

SCRIPT = Path(__file__).parents[1] / "examples" / "cluster" / "score_with_ray.py"
TOP = 3


@pytest.fixture(scope="module")
def script():
    """The names that the script defines."""
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def model(classifier, tmp_path_factory):
    """A `.keras` file of a classifier of seven classes."""
    file = tmp_path_factory.mktemp("model") / "toy.keras"
    classifier().save(file)
    return file


@pytest.fixture
def photos(tmp_path):
    """Six images and a file that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, pixels in enumerate(load_sample_images().images):
        Image.fromarray(pixels).resize((64, 48)).save(folder / f"photograph{number}.jpg")
    for number, pixels in enumerate(load_digits().images[:4]):
        Image.fromarray((pixels * 15).astype("uint8")).save(folder / f"digit{number}.png")
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture
def arguments(script, model, photos, tmp_path, monkeypatch):
    """Returns the script's arguments, with further ones."""

    def parse(*inputs, further=()):
        words = [SCRIPT.name, model, *(inputs or [photos]), "--output", tmp_path / "scores"]
        words += [f"--top={TOP}", "--batch-size=2", "--part-size=3", *further]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        return script["parse_arguments"]()

    return parse


def score(script, arguments):
    """Scores all parts in this process; returns the rows of the output."""
    manifest = script["Manifest"].begin_or_resume(arguments)
    scorer = script["Scorer"](arguments)
    for part in range(manifest.parts):
        [error] = scorer({"part": np.array([part])})["error"]
        assert not error
    return rows_of(arguments.output)


def rows_of(output):
    files = sorted(Path(output).glob("part-*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def check_prediction(row, image, model):
    """Compares a row of the output with what the predictor says of the image."""
    [wanted] = Predictor.load(model).predict(image, top=TOP)
    assert row["error"] is None
    assert row["classes"] == [one.label for one in wanted]
    np.testing.assert_allclose(row["probabilities"], [one.probability for one in wanted], rtol=1e-4)


@pytest.mark.slow
def test_killed_and_resumed_on_two_workers(photos, model, tmp_path):
    # Its reader waits for as long as nobody writes to it, so the kill comes within a part.
    os.mkfifo(photos / "z.jpg")
    scores = tmp_path / "scores"
    command = [sys.executable, SCRIPT, model, photos, "--output", scores]
    command += ["--workers=2", f"--top={TOP}", "--part-size=2", "--batch-size=2"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    deadline = time.monotonic() + 300
    while len(list(scores.glob("part-*.parquet"))) < 3:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    early = {file: file.stat().st_mtime_ns for file in scores.glob("part-*.parquet")}
    (photos / "z.jpg").unlink()
    Image.new("RGB", (32, 32), "red").save(photos / "z.jpg")

    resumed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

    assert resumed.returncode == 0, resumed.stderr[-4000:]
    assert "3 of 4 parts were scored before" in resumed.stdout
    assert f"8 images in {scores}, 1 of them bad\n  {photos / 'broken.jpg'}: " in resumed.stdout
    assert {file: file.stat().st_mtime_ns for file in early} == early
    rows = rows_of(scores)
    assert [Path(row["path"]) for row in rows] == sorted(photos.iterdir())
    assert [row["error"] is not None for row in rows] == [True, *[False] * 7]
    for row in rows[1:]:
        check_prediction(row, row["path"], model)


def test_a_folder_is_divided_into_parts(script, arguments, photos):
    parsed = arguments()
    rows = score(script, parsed)
    assert sorted(os.listdir(parsed.output)) == [
        "manifest.parquet",
        *(f"part-00000{part}.parquet" for part in range(3)),
    ]
    assert [row["path"] for row in rows] == sorted(map(str, photos.iterdir()))
    assert "cannot be read as an image" in rows[0]["error"]
    assert rows[0]["classes"] is None and rows[0]["row"] is None


@pytest.fixture
def table_of(tmp_path):
    """Writes a Parquet file of one column."""

    def write(column, values, name="table.parquet"):
        file = tmp_path / name
        pq.write_table(pa.table({column: values, "label": range(len(values))}), file)
        return file

    return write


def test_a_column_of_encoded_images(script, arguments, photos, table_of, model):
    images = [(photos / name).read_bytes() for name in ("photograph0.jpg", "broken.jpg")]
    file = table_of("image", [*images, None])
    good, broken, missing = score(script, arguments(file))
    check_prediction(good, images[0], model)
    assert [row["path"] for row in (good, broken, missing)] == [str(file)] * 3
    assert [row["row"] for row in (good, broken, missing)] == [0, 1, 2]
    assert "cannot be read as an image" in broken["error"]
    assert missing["error"] == "There is no image in this row."


def test_a_column_of_paths_relative_to_the_file(script, arguments, photos, table_of, model):
    file = table_of("name", ["photos/digit1.png", str(photos / "photograph1.jpg"), "photos/no"])
    rows = score(script, arguments(file, further=["--column=name"]))
    for row, name in zip(rows, ("digit1.png", "photograph1.jpg"), strict=False):
        assert row["path"] == str(photos / name)
        check_prediction(row, photos / name, model)
    assert rows[2]["error"] == f"There is no file {photos / 'no'}."


def test_a_column_as_hugging_face_stores_images(script, arguments, photos, table_of, model):
    image = (photos / "digit2.png").read_bytes()
    file = table_of("image", [{"bytes": image, "path": None}, {"bytes": None, "path": "photos/no"}])
    good, missing = score(script, arguments(file))
    check_prediction(good, image, model)
    assert missing["error"] == f"There is no file {photos / 'no'}."


def test_each_parquet_file_is_a_part(script, arguments, photos, table_of):
    image = (photos / "digit2.png").read_bytes()
    files = [table_of("image", [image] * 5, name) for name in ("a.parquet", "b.parquet")]
    parsed = arguments(*files, photos / "digit0.png")
    rows = score(script, parsed)
    counts = collections.Counter(row["path"] for row in rows)
    assert counts == {str(files[0]): 5, str(files[1]): 5, str(photos / "digit0.png"): 1}
    assert len(list(Path(parsed.output).glob("part-*"))) == 3


def test_another_column_is_refused(script, arguments, table_of):
    file = table_of("picture", [b""])
    with pytest.raises(DataError, match="no column 'image'. Its columns are: picture, label"):
        script["Manifest"].begin_or_resume(arguments(file))


def test_what_is_no_parquet_file_is_refused(script, arguments, tmp_path):
    (tmp_path / "table.parquet").write_text("no table")
    with pytest.raises(DataError, match=r"table\.parquet cannot be read as a Parquet file"):
        script["Manifest"].begin_or_resume(arguments(tmp_path / "table.parquet"))


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_an_input_without_files_is_refused(script, arguments, tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=f"no files in .*{name}, or it does not exist"):
        script["Manifest"].begin_or_resume(arguments(tmp_path / name))


def test_other_settings_are_refused_in_the_same_output(script, arguments):
    script["Manifest"].begin_or_resume(arguments())
    with pytest.raises(UserError, match="another `top`: 3. Received: 4. Choose another --output"):
        script["Manifest"].begin_or_resume(arguments(further=["--top=4"]))


def test_workers_that_do_not_fit_are_refused(script):
    wanted = argparse.Namespace(workers=3, cpus_per_worker=2, gpus_per_worker=0.5)
    script["check_resources"]({"CPU": 6.0, "GPU": 2.0}, wanted)
    with pytest.raises(UserError, match="3 workers need 6 CPUs, and the Ray cluster has 4"):
        script["check_resources"]({"CPU": 4.0, "GPU": 2.0}, wanted)
    with pytest.raises(UserError, match=r"3 workers need 1\.5 GPUs, and the Ray cluster has 0"):
        script["check_resources"]({"CPU": 6.0}, wanted)


def test_an_error_of_a_worker_is_a_sentence(script, arguments):
    parsed = arguments()
    parsed.model = "no_model"
    script["Manifest"].begin_or_resume(parsed)
    [error] = script["Scorer"](parsed)({"part": np.array([0])})["error"]
    assert error.startswith("no_model is neither the directory of a run")
