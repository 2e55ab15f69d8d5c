import logging

import pytest

from keras_convnext.data.sources import image_check
from keras_convnext.data.sources.folder import image_folder
from keras_convnext.errors import DataError

pytestmark = pytest.mark.backend_free


@pytest.fixture
def checked(monkeypatch):
    """The names of the files that were decoded to be checked."""
    seen = []
    fault = image_check.fault_of_file
    monkeypatch.setattr(
        image_check, "fault_of_file", lambda path: seen.append(path.decode()[-9:]) or fault(path)
    )
    return seen


@pytest.fixture
def folder(tmp_path, write_images, settle):
    """Three classes of two images each, one of which is none."""
    names = {f"{name}/{number}.png": number for name in ("ant", "bee", "cat") for number in (1, 2)}
    write_images(tmp_path / "data", names)
    (tmp_path / "data/bee/2.png").write_text("no image")
    return settle(tmp_path / "data")


EVERYTHING = [f"{name}/{number}.png" for name in ("ant", "bee", "cat") for number in (1, 2)]


def size_of(folder, checked):
    """Returns the images that are left, and the files that were decoded for it."""
    checked.clear()
    size = image_folder(folder, "skip").size
    return size, sorted(checked)


def test_only_what_was_bad_is_looked_at_again(folder, checked):
    assert size_of(folder, checked) == (5, EVERYTHING)
    assert size_of(folder, checked) == (5, ["bee/2.png"])


def test_what_was_bad_is_an_error_every_time(folder, checked):
    for _ in range(2):
        with pytest.raises(DataError, match="1 file of 6 .* The first is .*bee/2.png: Unknown"):
            image_folder(folder)
    assert len(checked) == 7


def test_a_mended_file_counts_again(folder, checked):
    size_of(folder, checked)
    (folder / "bee/2.png").write_bytes((folder / "ant/1.png").read_bytes())
    assert size_of(folder, checked) == (6, ["bee/2.png"])
    assert size_of(folder, checked) == (6, [])
    assert image_folder(folder).size == 6


def test_only_classes_that_changed_are_checked_again(folder, checked, settle):
    size_of(folder, checked)
    (folder / "bee/2.png").unlink()  # changes the time of its folder alone
    assert size_of(folder, checked) == (5, ["bee/1.png"])
    (folder / "cat/3.png").write_text("no image")
    assert size_of(folder, checked)[0] == 5
    assert {name[:3] for name in checked} == {"bee", "cat"}  # what is new is not trusted yet


def test_an_interrupted_check_resumes_where_it_stopped(folder, checked, monkeypatch):
    def interrupt(path):
        if b"cat" in path:
            raise KeyboardInterrupt
        return None

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(image_check, "fault_of_file", interrupt)
        image_folder(folder)
    assert size_of(folder, checked) == (6, ["cat/1.png", "cat/2.png"])


def test_a_check_cut_off_while_it_was_noted_is_made_again(folder, checked, own_log):
    (folder / "bee/2.png").write_bytes((folder / "ant/1.png").read_bytes())
    size_of(folder, checked)
    log = own_log(folder)
    log.write_text(log.read_text().rstrip()[:-10])  # in the last line, that of the last class
    assert size_of(folder, checked) == (6, ["cat/1.png", "cat/2.png"])
    assert size_of(folder, checked) == (6, [])


@pytest.fixture
def own_log(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    return lambda folder: next((tmp_path / "home").rglob("checks.jsonl"))


def test_files_that_were_not_checked_are_when_asked_for(folder, checked):
    assert image_folder(folder, check_images=False).size == 6
    assert checked == []
    assert size_of(folder, checked) == (5, EVERYTHING)
    assert image_folder(folder, check_images=False).size == 6  # whatever is known of them


def test_more_files_than_a_chunk_are_checked_all(folder, checked, monkeypatch):
    monkeypatch.setattr(image_check, "CHUNK_SIZE", 1)
    assert size_of(folder, checked) == (5, EVERYTHING)


def test_those_left_out_are_counted_every_time(folder, caplog):
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            image_folder(folder, "skip")
        assert "Left out 1 file of 6" in caplog.text and "bee/2.png" in caplog.text
