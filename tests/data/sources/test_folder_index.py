import json
import os
import tracemalloc

import numpy as np
import pytest

from keras_convnext.data.sources import folder_index
from keras_convnext.data.sources.folder_index import (
    ClassFolder,
    FolderIndex,
    current_index,
    write_index,
)
from keras_convnext.errors import DataError

pytestmark = pytest.mark.backend_free


@pytest.fixture
def folder(tmp_path, settle):
    """Two classes of three files, one of them in a folder further down."""
    for name in ("cat/1.png", "cat/deep/down/2.png", "dog/3.png"):
        add(tmp_path / "data", name)
    return settle(tmp_path / "data")


@pytest.fixture
def index_of(tmp_path):
    return lambda folder: current_index(tmp_path / "index", folder)


@pytest.fixture
def listings(monkeypatch):
    """The folders that were listed, one entry a time."""
    seen = []
    listed = folder_index.list_classes
    monkeypatch.setattr(
        folder_index, "list_classes", lambda folder: seen.append(folder) or listed(folder)
    )
    return seen


def add(folder, name):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"")


def paths(index):
    return [os.fsdecode(index.path_of(number)) for number in range(index.size)]


def test_files_have_numbers_and_classes(index_of, folder):
    index = index_of(folder)
    assert index.class_names == ("cat", "dog")
    assert paths(index) == ["cat/1.png", "cat/deep/down/2.png", "dog/3.png"]
    assert [index.class_of(number) for number in range(3)] == [0, 0, 1]
    assert [list(index.files_of(place)) for place in range(2)] == [[0, 1], [2]]


def test_an_index_is_made_once(index_of, folder, listings):
    first, again = index_of(folder), index_of(folder)
    assert paths(first) == paths(again)
    assert listings == [folder]


CHANGES = {
    "a file more": lambda folder: add(folder, "dog/4.png"),
    "a file less": lambda folder: (folder / "cat/1.png").unlink(),
    "another name": lambda folder: (folder / "dog/3.png").rename(folder / "dog/0.png"),
    "a file more further down": lambda folder: add(folder, "cat/deep/down/3.png"),
    "a class more": lambda folder: add(folder, "eel/1.png"),
    "a class less": lambda folder: (folder / "dog").rename(folder.parent / "dog"),
    "a folder less": lambda folder: (folder / "cat/deep").rename(folder.parent / "deep"),
    "a folder more": lambda folder: add(folder, "dog/young/1.png"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_seen(index_of, folder, listings, change):
    index_of(folder)
    CHANGES[change](folder)
    expected = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    assert paths(index_of(folder)) == expected
    assert len(listings) == 2


@pytest.fixture
def linked(folder, tmp_path, settle):
    """The folder with a class, a folder and a file behind links."""
    for name in ("pool/4.png", "classes/eel/5.png", "folders/old/6.png"):
        add(tmp_path / "there", name)
    (folder / "dog/4.png").symlink_to("../../there/pool/4.png")
    (folder / "cat/old").symlink_to(tmp_path / "there/folders/old")
    (folder / "eel").symlink_to(tmp_path / "there/classes/eel")
    return settle(tmp_path) / "data"


def replaced(folder, name):
    """Puts a new folder in the place of one, with the same time."""
    times = os.stat(folder / name)
    (folder / name).rename(folder / "before")
    add(folder, f"{name}/7.png")
    os.utime(folder / name, ns=(times.st_atime_ns, times.st_mtime_ns))


CHANGES_BEHIND_LINKS = {
    "a file more in a folder": lambda root: add(root, "folders/old/7.png"),
    "a file more in a class": lambda root: add(root, "classes/eel/7.png"),
    "another folder in its place": lambda root: replaced(root, "folders/old"),
    "a class that is gone and back": lambda root: replaced(root, "classes/eel"),
    "a file replaced": lambda root: (root / "pool/4.png").rename(root / "pool/5.png"),
}


def test_what_lies_behind_links_has_numbers_too(index_of, linked, listings):
    expected = ["cat/1.png", "cat/deep/down/2.png", "cat/old/6.png"]
    expected += ["dog/3.png", "dog/4.png", "eel/5.png"]
    assert paths(index_of(linked)) == expected == paths(index_of(linked))
    assert len(listings) == 1


@pytest.mark.parametrize("change", CHANGES_BEHIND_LINKS)
def test_every_change_behind_a_link_is_seen(index_of, linked, listings, tmp_path, change):
    index_of(linked)
    CHANGES_BEHIND_LINKS[change](tmp_path / "there")
    index_of(linked)
    assert len(listings) == 2


def test_links_may_lead_round_in_circles(index_of, folder):
    (folder / "cat/deep/up").symlink_to("..")
    (folder / "cat/all").symlink_to(folder)
    (folder / "dog/same").symlink_to(".")
    (folder / "dog/one").symlink_to("two")
    add(folder, "dog/two/4.png")
    expected = ["cat/1.png", "cat/deep/down/2.png", "dog/3.png", "dog/two/4.png"]
    assert paths(index_of(folder)) == expected


def test_a_folder_that_has_just_changed_is_not_trusted_yet(index_of, tmp_path):
    add(tmp_path / "new", "cat/1.png")
    index_of(tmp_path / "new")
    before = os.stat(tmp_path / "new/cat").st_mtime_ns
    add(tmp_path / "new", "cat/2.png")
    os.utime(tmp_path / "new/cat", ns=(before, before))  # within one tick of the clock
    assert index_of(tmp_path / "new").size == 2


def test_an_index_that_is_mapped_stays_as_it_was(index_of, folder):
    before = index_of(folder)
    (folder / "cat/1.png").unlink()
    assert index_of(folder).size == 2
    assert paths(before) == ["cat/1.png", "cat/deep/down/2.png", "dog/3.png"]


@pytest.mark.parametrize("file", ["index.json", "starts", "names"])
@pytest.mark.parametrize("harm", ["cut off", "gone"])
def test_a_damaged_index_is_made_anew(index_of, folder, listings, tmp_path, file, harm):
    index_of(folder)
    damaged = tmp_path / "index" / file
    if harm == "gone":
        damaged.unlink()
    else:
        damaged.write_bytes(damaged.read_bytes()[:-8])
    assert len(paths(index_of(folder))) == 3
    assert len(listings) == 2


def test_an_index_of_another_version_is_made_anew(index_of, folder, listings, tmp_path):
    index_of(folder)
    description = json.loads((tmp_path / "index/index.json").read_text())
    (tmp_path / "index/index.json").write_text(json.dumps({**description, "version": 0}))
    index_of(folder)
    assert len(listings) == 2


def test_what_a_killed_process_left_is_no_hindrance(index_of, folder, tmp_path):
    (tmp_path / "index.new").mkdir()
    (tmp_path / "index.new/names").write_bytes(b"half of them")
    assert index_of(folder).size == 3
    assert not (tmp_path / "index.new").exists()


def test_an_index_that_cannot_be_made_leaves_the_one_before(index_of, folder, tmp_path):
    index_of(folder)
    (folder / "eel").mkdir()
    with pytest.raises(DataError, match="class folders in .* without files: eel"):
        index_of(folder)
    assert FolderIndex(tmp_path / "index").size == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "index"]


def test_a_folder_that_may_not_be_read_is_named(index_of, folder, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=f"The folder {folder}/dog cannot be read: Permission den"):
        index_of(folder)


def test_names_may_be_any_bytes_but_those_of_a_path(index_of, folder):
    name = os.fsdecode(b"gr\xfcn.png")  # Latin-1, no UTF-8
    (folder / "cat" / name).write_bytes(b"")
    assert os.fsencode(f"cat/{name}") in [index_of(folder).path_of(n) for n in range(4)]


def test_an_index_is_written_with_one_class_in_memory(tmp_path):
    def classes():
        for place in range(400):
            files = [f"n{place:08}_{number}.JPEG" for number in range(500)]
            yield ClassFolder(f"n{place:08}", files, {f"n{place:08}": 7})

    tracemalloc.start()
    write_index(tmp_path, classes(), 7)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 10**6  # all the names at once would take 14 million
    index = FolderIndex(tmp_path)
    assert index.size == 200_000
    for number in np.random.default_rng(0).integers(0, 200_000, 100):
        place, own = divmod(int(number), 500)
        assert index.path_of(number) == b"n%08d/n%08d_%d.JPEG" % (place, place, own)
        assert index.class_of(number) == place
