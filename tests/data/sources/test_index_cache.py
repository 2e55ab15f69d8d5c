import errno
import logging
import threading

import pytest

from keras_convnext.data.sources import folder_index
from keras_convnext.data.sources.folder import image_folder
from keras_convnext.data.sources.index_cache import index_directory, replace_directory
from keras_convnext.errors import DataError

pytestmark = pytest.mark.backend_free


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def images(tmp_path, write_images, settle):
    write_images(tmp_path / "images", {"cat/1.png": 0, "dog/1.png": 0})
    return settle(tmp_path / "images")


def test_an_index_lies_in_the_packages_cache(home, tmp_path):
    with index_directory(tmp_path) as directory:
        assert directory.is_dir()
        assert home / "keras_convnext" in directory.parents


def test_every_folder_has_its_own_whatever_it_is_called(home, tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    places = []
    for name in (tmp_path / "a", tmp_path, tmp_path / "link", type(tmp_path)("a")):
        with index_directory(name) as directory:
            places.append(directory)
    assert places[0] == places[2] == places[3] != places[1]


def test_only_one_at_a_time_makes_an_index(home, images, monkeypatch, capfd):
    listings = []
    list_classes = folder_index.list_classes
    monkeypatch.setattr(
        folder_index, "list_classes", lambda folder: listings.append(1) or list_classes(folder)
    )
    sizes = []
    with index_directory(images):
        threads = [
            threading.Thread(target=lambda: sizes.append(image_folder(images).size))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        threads[0].join(0.5)
        assert sizes == listings == []
    for thread in threads:
        thread.join()
    assert sizes == [2] * 4
    assert len(listings) == 1


@pytest.mark.parametrize("before", [False, True])
def test_without_a_place_the_index_is_temporary(images, monkeypatch, tmp_path, caplog, before):
    if before:  # what is there is used
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
        image_folder(images)
        monkeypatch.setattr(folder_index, "list_classes", None)
        refuse = OSError(errno.EROFS, "Read-only file system")
        monkeypatch.setattr("keras_convnext.data.sources.index_cache.FileLock", raising(refuse))
    else:
        (tmp_path / "file").write_text("no folder")
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file/home"))
    with caplog.at_level(logging.WARNING):
        split = image_folder(images)
    assert "will be rebuilt next time. Set KERAS_HOME to another directory" in caplog.text
    assert [split.name_of(n) for n in range(2)] == [
        str(images / "cat/1.png"),
        str(images / "dog/1.png"),
    ]


def raising(error):
    def fail(*arguments):
        raise error

    return fail


def test_a_full_disk_is_one_error_and_costs_nothing(tmp_path):
    replace_directory(tmp_path / "index", lambda fresh: (fresh / "names").write_text("before"))
    full = raising(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(
        DataError, match=r"written to .*: No space left on device\. Free some space"
    ):
        replace_directory(tmp_path / "index", full)
    assert (tmp_path / "index/names").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
