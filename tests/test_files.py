import contextlib
import errno
import os
import resource

import pytest
from file_operations import killed_at, listening

from keras_convnext import files
from keras_convnext.errors import UserError

pytestmark = pytest.mark.backend_free


def test_a_file_is_written_whole(tmp_path):
    path = tmp_path / "new/text"
    files.write_text(path, "ä\n")
    assert path.read_text(encoding="utf-8") == "ä\n"
    assert [p.name for p in path.parent.iterdir()] == ["text"]


def test_a_file_has_its_old_content_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "text"
    path.write_text("old")
    with pytest.raises(KeyError), files.atomic_write(path) as written:
        written.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_appears_once_it_is_filled(tmp_path):
    path = tmp_path / "new/model"
    with files.atomic_directory(path) as written:
        (written / "a").mkdir()
        (written / "a/b").write_text("b")
        assert not path.exists()
    assert (path / "a/b").read_text() == "b"
    assert [p.name for p in path.parent.iterdir()] == ["model"]


def test_a_directory_that_is_not_filled_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), files.atomic_directory(tmp_path / "model") as written:
        (written / "a").write_text("half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_directory_replaces_nothing(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine").write_text("mine")
    match = "model cannot be written: Directory not empty"
    with (
        pytest.raises(files.WriteError, match=match),
        files.atomic_directory(tmp_path / "model") as written,
    ):
        (written / "a").write_text("a")
    assert (tmp_path / "model/mine").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_files_that_belong_together_get_their_names_in_order(tmp_path):
    order = []

    def listener(event, path):
        if event == "os.rename":
            order.append(os.path.basename(path))

    with listening(listener), files.atomic_writes(tmp_path / "b", tmp_path / "a") as places:
        for place in places:
            place.write_text(place.name)
    assert order == ["b", "a"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "a", "b": "b"}


def test_files_that_belong_together_are_there_all_or_none_after_a_kill(tmp_path):
    def write(folder):
        with files.atomic_writes(folder / "b", folder / "a") as places:
            for place in places:
                place.write_text(place.name)

    (tmp_path / "all").mkdir()
    with killed_at(None, tmp_path) as operations:
        write(tmp_path / "all")
    alone = 0
    for number in range(len(operations)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with killed_at(number, folder):
            write(folder)
        names = {path.name for path in folder.iterdir() if not path.name.startswith(files.PARTIAL)}
        alone += names == {"b"}
        clean = (
            files.remove_partial if number % 2 else lambda one: files.undo_interrupted(one / "a")
        )
        clean(folder)
        names = {path.name for path in folder.iterdir() if not path.name.startswith(files.PARTIAL)}
        assert names in (set(), {"a", "b"}), f"after a kill at {operations[number]}"
    assert alone


@pytest.mark.parametrize("fails", ["a", "b"])
def test_files_that_belong_together_are_there_all_or_none(tmp_path, monkeypatch, fails):
    replace = os.replace

    def full(source, target):
        if os.path.basename(target) == fails:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    match = "a cannot be written: No space left on device"
    with (
        pytest.raises(files.WriteError, match=match),
        files.atomic_writes(tmp_path / "b", tmp_path / "a") as places,
    ):
        for place in places:
            place.write_text(place.name)
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_names_its_own_file_keeps_it(tmp_path):
    with pytest.raises(files.WriteError) as raised, files.atomic_write(tmp_path / "a"):
        raise files.WriteError(errno.ENOSPC, "No space left on device", "/other/b")
    assert raised.value.filename == "/other/b"


def test_the_content_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(os, "fsync", lambda _: order.append("fsync"))
    with listening(lambda event, path: order.append(f"{event} {os.path.basename(path)}")):
        files.write_text(tmp_path / "text", "new")
    assert order.index("fsync") < order.index("os.rename text")


def test_what_is_added_is_on_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    files.append(tmp_path / "log", b"1\n")
    files.append(tmp_path / "log", b"2\n")
    assert (tmp_path / "log").read_bytes() == b"1\n2\n" and len(synced) == 2


@contextlib.contextmanager
def no_file_beyond(size):
    """Within, no file can grow beyond a size, as on a full disk: the test's own output neither."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path):
    path = tmp_path / "text"
    path.write_text("old")
    match = r"text cannot be written: File too large\.$"
    with pytest.raises(UserError, match=match) as raised, no_file_beyond(1000):
        files.write_text(path, "x" * 2000)
    assert (raised.value.errno, raised.value.filename) == (errno.EFBIG, str(path))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("added", [b"x" * 2000, b"x" * 500])
def test_a_line_that_does_not_fit_is_not_begun(tmp_path, added):
    path = tmp_path / "log"
    path.write_bytes(b"y" * 600)
    with pytest.raises(files.WriteError, match=r"log cannot be written: "), no_file_beyond(1000):
        files.append(path, added)
    assert path.read_bytes() == b"y" * 600


def test_a_further_name_replaces_what_had_it(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(name)
    for _ in range(2):  # linking what is linked already changes nothing
        files.link(tmp_path / "a", tmp_path / "b")
        assert (tmp_path / "b").samefile(tmp_path / "a")
        assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_where_links_are_unknown_a_file_is_copied(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "link", unknown)
    (tmp_path / "a").write_text("a")
    files.link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "a"
    assert not (tmp_path / "b").samefile(tmp_path / "a")


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    (tmp_path / ".partial-x").mkdir()
    (tmp_path / ".partial-x/half").write_text("")
    (tmp_path / "whole").write_text("")
    files.remove_partial(tmp_path)
    files.remove_partial(tmp_path / "nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
