import logging
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_convnext.data.sources.folder import image_folder, image_folders
from keras_convnext.data.sources.load import load_split, load_splits
from keras_convnext.errors import DataError
from keras_convnext.recipe import Data

pytestmark = pytest.mark.backend_free

BOTH = {"train/cat/1.png": 30, "train/dog/1.png": 200, "val/cat/1.png": 60, "val/dog/1.png": 90}


@pytest.fixture
def broken(tmp_path, write_images):
    """A folder of three images and two files that are none."""
    write_images(tmp_path, {"cat/1.png": 10, "cat/2.png": 20, "dog/1.png": 30})
    (tmp_path / "cat/notes.txt").write_text("no image")
    (tmp_path / "dog/cut.png").write_bytes((tmp_path / "dog/1.png").read_bytes()[:100])
    return tmp_path


def labels(split):
    found = [split.example(tf.constant(index, tf.int64))[1] for index in range(split.size)]
    assert all(label.dtype == tf.int32 and label.shape == () for label in found)
    return [int(label) for label in found]


def names(split):
    return [split.name_of(index) for index in range(split.size)]


def test_classes_are_sorted_and_numbered(tmp_path, write_images):
    write_images(tmp_path, {"zebra/1.png": 0, "Ant/1.png": 1, "bee/2.png": 2, "bee/10.png": 3})
    split = image_folder(tmp_path)
    assert split.class_names == ("Ant", "bee", "zebra")
    assert split.size == 4
    assert labels(split) == [0, 1, 1, 2]
    assert names(split) == [
        str(tmp_path / name) for name in ("Ant/1.png", "bee/10.png", "bee/2.png", "zebra/1.png")
    ]


def test_images_are_those_in_the_files(tmp_path, write_images):
    write_images(tmp_path, {"a/1.png": 40, "b/1.png": 140, "b/2.bmp": 240})
    split = image_folder(tmp_path)
    for index in range(3):
        pixels = np.asarray(Image.open(split.name_of(index)).convert("RGB"))
        np.testing.assert_array_equal(split.example(tf.constant(index))[0], pixels)


def test_formats_may_be_mixed(tmp_path, write_images):
    files = ["a.png", "b.jpg", "c.JPEG", "d.bmp", "e.webp", "f.gif", "no_extension"]
    write_images(tmp_path, {f"cat/{name}": 50 for name in files if name != "no_extension"})
    (tmp_path / "cat/no_extension").write_bytes((tmp_path / "cat/a.png").read_bytes())
    split = image_folder(tmp_path)
    assert [name.rsplit("/")[-1] for name in names(split)] == files
    assert {split.example(tf.constant(i))[0].shape for i in range(len(files))} == {(20, 16, 3)}


def test_names_may_hold_spaces_and_any_letters(tmp_path, write_images):
    write_images(tmp_path, {"grüne Äpfel/Bild Nr. 1 (Kopie).png": 5, "猫/ねこ.png": 6})
    split = image_folder(tmp_path)
    assert split.class_names == ("grüne Äpfel", "猫")
    assert [split.example(tf.constant(i))[0].shape for i in range(2)] == [(20, 16, 3)] * 2


def test_folders_inside_a_class_belong_to_it(tmp_path, write_images):
    write_images(tmp_path, {"cat/1.png": 0, "cat/black/young/1.png": 1, "dog/1.png": 2})
    assert labels(image_folder(tmp_path)) == [0, 0, 1]


def test_hidden_files_and_folders_are_ignored(tmp_path, write_images):
    write_images(tmp_path, {"cat/1.png": 0, ".cache/1.png": 1, "cat/.thumbnails/1.png": 2})
    (tmp_path / "cat/.DS_Store").write_bytes(b"none")
    (tmp_path / "readme.txt").write_text("beside the classes")
    assert names(image_folder(tmp_path)) == [str(tmp_path / "cat/1.png")]


def test_both_parts_are_loaded(tmp_path, write_images):
    write_images(tmp_path, {**BOTH, "train/eel/1.png": 7})  # a class that val lacks is no error
    train, val = load_splits(Data(source="folder", path=str(tmp_path)))
    assert train.class_names == val.class_names == ("cat", "dog", "eel")
    assert labels(val) == [0, 1]


@pytest.mark.parametrize("missing", ["", "train", "val"])
def test_a_missing_folder_is_named(tmp_path, write_images, missing):
    root = write_images(tmp_path / "data", BOTH)
    (root / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=f"There is no folder {root / missing}"):
        image_folders(str(root), Data(source="folder", path=str(root)))


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "data.zip").write_bytes(b"")
    with pytest.raises(DataError, match="There is no folder"):
        image_folder(tmp_path / "data.zip")


def test_images_outside_of_class_folders_are_refused(tmp_path, write_images):
    write_images(tmp_path, {"1.png": 0, "2.png": 1})
    with pytest.raises(DataError, match="holds no class folders. .* Put the images of each class"):
        image_folder(tmp_path)


@pytest.mark.parametrize("empty", ["a", "ab"])
def test_empty_classes_are_named(tmp_path, write_images, empty):
    write_images(tmp_path, {"cat/1.png": 0})
    for name in empty:
        (tmp_path / name).mkdir()
        (tmp_path / name / ".hidden").write_text("")
    with pytest.raises(DataError, match=f"without files: {', '.join(empty)}. Add images or"):
        image_folder(tmp_path)


def test_a_class_that_was_not_trained_on_is_named(tmp_path, write_images):
    write_images(tmp_path, {**BOTH, "val/eel/1.png": 7})
    expected = "val holds classes that the training images lack: eel. .* are: cat, dog."
    with pytest.raises(DataError, match=expected):
        image_folders(str(tmp_path), Data(source="folder", path=str(tmp_path)))


def test_a_fault_in_a_bmp_is_told_in_words(tmp_path, write_images):
    write_images(tmp_path, {"cat/1.bmp": 0})
    palette = Image.open(tmp_path / "cat/1.bmp").quantize()
    palette.save(tmp_path / "cat/1.bmp")
    compressed = bytearray((tmp_path / "cat/1.bmp").read_bytes())
    compressed[30] = 1  # BI_RLE8
    (tmp_path / "cat/1.bmp").write_bytes(compressed)
    with pytest.raises(DataError, match="1.bmp: a run-length encoded BMP; save it uncompressed"):
        image_folder(tmp_path)


def test_long_lists_are_shortened(tmp_path, write_images):
    write_images(tmp_path, {"cat/1.png": 0})
    for number in range(7):
        (tmp_path / f"empty{number}").mkdir()
    with pytest.raises(DataError, match="empty0, empty1, empty2, empty3, empty4 and 2 more"):
        image_folder(tmp_path)


def test_the_first_file_that_is_no_image_is_named(broken):
    with pytest.raises(DataError) as caught:
        image_folder(broken)
    message = str(caught.value)
    assert "2 files of 5 cannot be read as images" in message
    assert f"The first is {broken / 'cat/notes.txt'}: Unknown image file format" in message
    assert "pass data.on_bad_image=skip" in message
    assert "JPEG, PNG, BMP, WebP and GIF" in message
    assert "\n" not in message and "Op:" not in message and "{{" not in message


@pytest.mark.parametrize("contents", [b"", b"\xff\xd8\xff\xe0 cut", b"BM", b"BM" + bytes(40)])
def test_a_fault_is_told_without_tensorflows_words(tmp_path, write_images, contents):
    write_images(tmp_path, {"cat/1.png": 0})
    (tmp_path / "cat/2.jpg").write_bytes(contents)
    with pytest.raises(DataError, match=r"The first is .*2\.jpg: ") as caught:
        image_folder(tmp_path)
    assert "[Op:" not in str(caught.value) and "{{" not in str(caught.value)


def test_files_that_are_no_images_are_skipped_on_request(broken, caplog):
    with caplog.at_level(logging.WARNING):
        split = image_folder(broken, on_bad_image="skip")
    assert labels(split) == [0, 0, 1]
    assert [Path(name).name for name in names(split)] == ["1.png", "2.png", "1.png"]
    assert "Left out 2 files of 5" in caplog.text
    assert "notes.txt" in caplog.text and "cut.png" in caplog.text


def test_a_class_without_any_image_is_refused_even_when_skipping(broken):
    (broken / "dog/1.png").unlink()
    with pytest.raises(DataError, match="All files of these classes are skipped.*: dog"):
        image_folder(broken, on_bad_image="skip")


def test_links_are_followed(tmp_path, write_images):
    write_images(tmp_path / "data", {"cat/1.png": 0})
    write_images(tmp_path, {"elsewhere/2.png": 50, "elsewhere/dark/3.png": 60})
    (tmp_path / "data/cat/2.png").symlink_to(tmp_path / "elsewhere/2.png")
    (tmp_path / "data/cat/deeper").symlink_to(tmp_path / "elsewhere/dark")
    (tmp_path / "data/dog").symlink_to(tmp_path / "elsewhere")
    split = image_folder(tmp_path / "data")
    expected = ["cat/1.png", "cat/2.png", "cat/deeper/3.png", "dog/2.png", "dog/dark/3.png"]
    assert names(split) == [str(tmp_path / "data" / name) for name in expected]
    assert labels(split) == [0, 0, 0, 1, 1]


def test_a_link_that_leads_nowhere_is_a_file_that_cannot_be_read(tmp_path, write_images, caplog):
    write_images(tmp_path, {"cat/1.png": 0, "dog/1.png": 0})
    (tmp_path / "cat/gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "dog/circle.png").symlink_to("circle.png")
    with pytest.raises(DataError, match="2 files of 4 .* The first is .*cat/gone.png: "):
        image_folder(tmp_path)
    split = image_folder(tmp_path, on_bad_image="skip")
    assert [Path(name).name for name in names(split)] == ["1.png", "1.png"]
    assert "gone.png" in caplog.text and "circle.png" in caplog.text


def test_a_class_behind_a_link_that_leads_nowhere_is_named(tmp_path, write_images):
    write_images(tmp_path, {"cat/1.png": 0, "dog/1.png": 0})
    (tmp_path / "owl").symlink_to(tmp_path / "unmounted/owl")
    (tmp_path / "emu").symlink_to("emu")
    with pytest.raises(DataError, match="broken links in .*: emu, owl. Restore their targets"):
        image_folder(tmp_path, on_bad_image="skip")


def folder_data(path, **settings):
    return Data(source="folder", path=str(path), validation_split=None, **settings)


def test_one_class_is_never_trained(tmp_path, write_images):
    write_images(tmp_path, {"train/owl/1.png": 0, "train/owl/2.png": 0})
    with pytest.raises(DataError, match="train holds one class, owl; .* owl holds 2 files, such"):
        load_splits(folder_data(tmp_path))


def test_classes_a_level_too_deep_are_named(tmp_path, write_images):
    write_images(tmp_path, {"train/all/cat/1.png": 0, "train/all/dog/1.png": 0})
    with pytest.raises(DataError, match="all holds the folders cat, dog. .*=train/all") as one:
        load_splits(folder_data(tmp_path))
    assert "data.training_split=train/all" in str(one.value)
    train, _ = load_splits(folder_data(tmp_path, training_split="train/all"))
    assert train.class_names == ("cat", "dog")
    with pytest.raises(DataError, match="classes that the training images lack: all. .*cat, dog.$"):
        load_split(tmp_path / "train", class_names=("cat", "dog"))


def test_the_parts_of_a_data_set_are_no_classes(tmp_path, write_images):
    write_images(tmp_path / "x/train", BOTH)
    with pytest.raises(DataError, match="holds the splits of a data set, train, val, not its"):
        load_splits(folder_data(tmp_path / "x"))
    with pytest.raises(DataError, match="Pass one of the splits, such as .*train/val;"):
        load_split(tmp_path / "x/train")
    write_images(tmp_path / "vehicles", {"train/1.png": 0, "test/1.png": 0})
    assert load_split(tmp_path / "vehicles").class_names == ("test", "train")


def test_classes_that_all_hold_the_same_folders_are_doubted(tmp_path, write_images, caplog):
    images = {f"{part}/{name}/1.png": 0 for part in ("a", "b") for name in ("cat", "dog")}
    assert image_folder(write_images(tmp_path, images)).class_names == ("a", "b")
    assert "None of them holds files, and all hold the same folders: cat, dog" in caplog.text


def test_folders_below_some_classes_are_not_doubted(tmp_path, write_images, caplog):
    image_folder(write_images(tmp_path, {"a/cat/1.png": 0, "a/dog/1.png": 0, "b/1.png": 0}))
    assert caplog.text == ""


def test_an_evaluation_folder_may_hold_one_of_many_classes(tmp_path, write_images):
    write_images(tmp_path, {"dog/1.png": 0})
    assert labels(load_split(tmp_path, class_names=("cat", "dog", "eel"))) == [1]


def test_images_without_a_class_folder_are_named(tmp_path, write_images, caplog):
    write_images(tmp_path, {"7.png": 0, "8.PNG": 0})
    with pytest.raises(DataError, match="no class folders. .* holds 2 files, such as 7.png"):
        image_folder(tmp_path)
    image_folder(write_images(tmp_path, {"cat/1.png": 0}))
    assert "2 images in" in caplog.text and "such as 7.png" in caplog.text


def test_file_names_may_be_any_bytes(tmp_path, write_images, caplog):
    write_images(tmp_path, {"cat/1.png": 5, "dog/1.png": 6})
    name = tmp_path / "cat" / os.fsdecode(b"caf\xe9.png")  # Latin-1, no UTF-8
    name.write_bytes((tmp_path / "cat/1.png").read_bytes())
    split = image_folder(tmp_path)
    assert split.name_of(1) == str(name)
    assert split.example(tf.constant(1))[0].shape == (20, 16, 3)
    name.write_text("no image")
    with pytest.raises(DataError, match=r"caf\\udce9.png: Unknown image file format"):
        image_folder(tmp_path)
    assert image_folder(tmp_path, on_bad_image="skip").size == 2
    assert r"caf\udce9.png" in caplog.text


def test_the_name_of_a_class_is_text(tmp_path, write_images):
    write_images(tmp_path, {"cat/1.png": 5})
    (tmp_path / os.fsdecode(b"\xfcl")).mkdir()
    with pytest.raises(DataError, match=r"must be UTF-8, .*: '\\udcfcl'."):
        image_folder(tmp_path)


def test_the_order_is_that_of_the_paths(tmp_path):
    for name in ("b.png", "b/c.png", "b-a.png", "B.png", "a/z/1.png", "a/b.png", "ä.png", "z.png"):
        (tmp_path / "cat" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cat" / name).write_bytes(b"")
    split = image_folder(tmp_path, check_images=False)
    assert names(split) == sorted(str(path) for path in tmp_path.rglob("*.png"))


def test_a_recipe_may_call_the_parts_otherwise_or_have_no_validation_images(tmp_path, write_images):
    images = {f"a/{name}/1.png": 0 for name in ("cat", "dog")}
    write_images(tmp_path, {**images, "b/cat/1.png": 0, "b/cat/2.png": 0})
    settings = {"source": "folder", "path": str(tmp_path), "training_split": "a"}
    train, val = load_splits(Data(**settings, validation_split="b"))
    assert (train.size, val.size) == (2, 2)
    train, val = load_splits(Data(**settings, validation_split=None))
    assert train.size == 2 and val is None


def test_files_need_not_be_checked(broken):
    data = {"source": "folder", "path": str(broken.parent), "check_images": False}
    split, _ = load_splits(Data(**data, training_split=broken.name, validation_split=None))
    assert split.size == 5
    with pytest.raises(tf.errors.InvalidArgumentError):
        split.example(tf.constant(2))


def test_a_validation_class_is_numbered_as_in_training(tmp_path, write_images):
    write_images(tmp_path, {"eel/1.png": 0, "dog/1.png": 0, "dog/2.png": 0})
    split = image_folder(tmp_path, class_names=("ant", "dog", "cat", "eel"))
    assert split.class_names == ("ant", "dog", "cat", "eel")
    assert labels(split) == [1, 1, 3]


def test_images_are_looked_up_in_parallel_inside_a_pipeline(tmp_path, write_images):
    write_images(tmp_path, {f"{name}/{n}.png": 20 * n for name in "ab" for n in range(8)})
    (tmp_path / "a/5.png").write_text("no image")
    split = image_folder(tmp_path, on_bad_image="skip")
    dataset = tf.data.Dataset.range(split.size).map(split.example, num_parallel_calls=4)
    assert dataset.element_spec[0].shape == (None, None, 3)
    for index, (image, label) in enumerate(dataset.as_numpy_iterator()):
        path = Path(split.name_of(index))
        np.testing.assert_array_equal(image, np.asarray(Image.open(path)))
        assert split.class_names[label] == path.parent.name


def test_a_part_of_an_image_can_be_had(tmp_path, write_images):
    write_images(tmp_path, {"cat/1.png": 50, "cat/2.jpg": 150})
    split = image_folder(tmp_path)
    for index in range(2):
        part, _ = split.example(
            tf.constant(index), lambda height, width: tf.stack([2, width - 6, height - 9, 5])
        )
        whole = np.asarray(Image.open(split.name_of(index)))
        np.testing.assert_array_equal(part, whole[2 : 2 + 20 - 9, 10:15])
