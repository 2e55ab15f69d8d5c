"""Predictions for files and folders of files."""

import os

import keras
import pytest

from keras_convnext.errors import DataError
from keras_convnext.serving import image_files as module
from keras_convnext.serving.image_files import image_files, predict_files

pytestmark = pytest.mark.backend_free


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(inputs))
    keras.Model(inputs, outputs).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    for name in ("b.jpg", "a.png", "trip/c.jpg", "trip/day 2/d.WEBP", ".DS_Store", ".hidden/e.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_a_folder_stands_for_all_files_below_it(folder):
    names = ["a.png", "b.jpg", "trip/c.jpg", "trip/day 2/d.WEBP"]
    assert image_files([folder]) == [folder / name for name in names]


def test_files_stay_in_the_order_they_are_named_in(folder):
    paths = [folder / "b.jpg", folder / "trip", "nowhere.jpg", folder / "a.png"]
    found = [os.path.relpath(path, folder) for path in image_files(paths)]
    assert found[0:3] == ["b.jpg", "trip/c.jpg", "trip/day 2/d.WEBP"]
    assert [os.path.basename(name) for name in found[3:]] == ["nowhere.jpg", "a.png"]


def test_links_are_followed_but_not_round_in_a_circle(folder, tmp_path):
    (tmp_path / "else").mkdir()
    (tmp_path / "else/f.jpg").write_bytes(b"")
    (folder / "trip/else").symlink_to(tmp_path / "else")
    (folder / "trip/up").symlink_to(folder)
    (folder / "gone.jpg").symlink_to(tmp_path / "nowhere")
    found = [os.path.relpath(path, folder) for path in image_files([folder])]
    assert "trip/else/f.jpg" in found and "gone.jpg" in found
    assert not any("up" in name for name in found)


def test_a_folder_without_files_is_named(tmp_path):
    (tmp_path / "empty/below").mkdir(parents=True)
    with pytest.raises(DataError, match=r"The folder .*/empty holds no files"):
        image_files([tmp_path / "empty"])


def test_bad_files_are_left_out_of_the_results(model, write_images, tmp_path):
    folder = write_images(tmp_path / "photos", {"a.png": 60, "trip/b.jpg": 200})
    (folder / "notes.txt").write_text("Paris, in May")
    with pytest.raises(DataError, match=r"notes\.txt cannot be read as an image"):
        predict_files(model, [folder])
    found = predict_files(model, [folder], top=2, on_bad_image="skip")
    assert [file for file, _ in found] == [folder / "a.png", folder / "trip/b.jpg"]
    assert [len(best) for _, best in found] == [2, 2]
    with pytest.raises(DataError, match="None of 1 file can be read as an image"):
        predict_files(model, [folder / "notes.txt"], on_bad_image="skip")


@pytest.mark.parametrize(("count", "shown"), [(3, False), (40, True)])
def test_a_progress_bar_shows_where_there_are_many(
    model, write_images, tmp_path, monkeypatch, count, shown
):
    folder = write_images(tmp_path, {f"{number}.png": number for number in range(count)})
    disabled = []
    track = module.track
    monkeypatch.setattr(
        module, "track", lambda *a, disable, **k: disabled.append(disable) or track(*a, **k)
    )
    assert len(predict_files(model, [folder], top=1)) == count
    assert disabled == [not shown]
