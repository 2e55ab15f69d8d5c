"""Which files paths stand for."""

import io
import os

import pytest

from keras_convnext.errors import DataError
from keras_convnext.prediction.image_files import count_files, image_files

pytestmark = pytest.mark.backend_free


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    for name in ("b.jpg", "a.png", "trip/c.jpg", "trip/day 2/d.WEBP", ".DS_Store", ".hidden/e.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_a_folder_stands_for_all_files_below_it(folder):
    names = ["a.png", "b.jpg", "trip/c.jpg", "trip/day 2/d.WEBP"]
    assert list(image_files([folder])) == [folder / name for name in names]


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
        list(image_files([tmp_path / "empty"]))


def test_patterns_stand_for_what_matches(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert [str(path) for path in image_files(["**/*.jpg"])] == ["b.jpg", "trip/c.jpg"]
    (folder / "[1].jpg").write_bytes(b"")
    assert [str(path) for path in image_files(["[1].jpg"])] == ["[1].jpg"]
    with pytest.raises(DataError, match=r"No file matches \*\.tiff"):
        list(image_files(["*.tiff"]))


def test_names_are_read_from_standard_input(folder, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("x y.jpg\r\n\nz.jpg\n"))
    assert count_files(["-", folder]) is None
    names = [path.name for path in image_files(["-", folder / "trip"])]
    assert names == ["x y.jpg", "z.jpg", "c.jpg", "d.WEBP"]


def test_files_are_counted(folder):
    assert count_files([folder, "nowhere.jpg"]) == 5
