"""Data sets that TensorFlow Datasets prepares here, against what it reads of them itself."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_sample_image

from keras_convnext.data.pipeline import training_dataset
from keras_convnext.data.read_errors import as_data_error
from keras_convnext.data.sources.load import load_split, load_splits
from keras_convnext.data.sources.tfds import tfds_split
from keras_convnext.errors import DataError, MissingPackage, UserError
from keras_convnext.recipe import Augment, Data

pytestmark = pytest.mark.backend_free

TRAINING, TESTING = 23, 7
NAMES = ["n01440764", "n01443537", "n02123045"]
PHOTO = load_sample_image("flower.jpg")


def jpeg(number):
    """Returns a JPEG of its own size and content, the odd ones as files of Pillow's own making."""
    part = PHOTO[number : 40 + 2 * number, 200 : 230 + number]
    file = io.BytesIO()
    Image.fromarray(part).save(file, "JPEG", quality=70 + number)
    file.seek(0)
    return file if number % 2 else part


class Photos(tfds.core.GeneratorBasedBuilder):
    """Parts of a photograph, with more about each than its image and its label."""

    VERSION = tfds.core.Version("1.2.0")
    FEATURES = (
        ("file_name", tfds.features.Text()),
        ("image", tfds.features.Image(encoding_format="jpeg")),
        ("label", tfds.features.ClassLabel(names=NAMES)),
    )
    KEYS = ("image", "label")
    # Without it, TensorFlow Datasets looks for a package's resources, by an undeclared dependency.
    code_path = Path(__file__)

    def _info(self):
        features = tfds.features.FeaturesDict(dict(self.FEATURES))
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=self.KEYS)

    def _split_generators(self, download_manager):
        return {"train": self._examples(0, TRAINING), "test": self._examples(30, TESTING)}

    def _generate_examples(self, start, count):
        for number in range(start, start + count):
            yield number, self.example(number)

    _examples = _generate_examples

    def example(self, number):
        return {"file_name": f"{number}.jpg", "image": jpeg(number), "label": number % 3}


class Greys(Photos):
    """PNG images of one channel, and no supervised keys."""

    FEATURES = (
        ("image", tfds.features.Image(shape=(9, 7, 1))),
        ("label", tfds.features.ClassLabel(names=NAMES)),
    )
    KEYS = None

    def example(self, number):
        image = PHOTO[number : number + 9, 300:307, :1]
        return {"image": image, "label": -1 if number >= 30 else number % 3}


class Masks(Photos):
    """Two images and no label."""

    FEATURES = (
        ("image", tfds.features.Image(shape=(9, 7, 1))),
        ("mask", tfds.features.Image(shape=(9, 7, 1))),
    )
    KEYS = None

    def example(self, number):
        image = PHOTO[number : number + 9, 300:307, :1]
        return {"image": image, "mask": image}


class Floats(Photos):
    """Images of another type than can be read."""

    FEATURES = (
        ("image", tfds.features.Image(shape=(9, 7, 1), dtype=np.float32)),
        ("label", tfds.features.ClassLabel(names=NAMES)),
    )

    def example(self, number):
        image = PHOTO[number : number + 9, 300:307, :1].astype("float32")
        return {"image": image, "label": 0}


def prepared(builder_class, data_dir, file_format="tfrecord", shards=4):
    builder = builder_class(data_dir=str(data_dir), file_format=file_format)
    download = tfds.download.DownloadConfig(num_shards=shards)
    builder.download_and_prepare(download_config=download)
    return builder


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def photos(request, tmp_path_factory):
    """The builder of a prepared set in each format, and where it lies."""
    data_dir = tmp_path_factory.mktemp(request.param)
    return prepared(Photos, data_dir, request.param), str(data_dir)


@pytest.fixture
def own_photos(tmp_path):
    return prepared(Photos, tmp_path), str(tmp_path)


def examples(split, box=None):
    dataset = tf.data.Dataset.range(split.size).map(
        lambda index: split.example(index, box), num_parallel_calls=4
    )
    return list(dataset.as_numpy_iterator())


def references(builder, split):
    """Returns the files and the labels, read by TensorFlow Datasets, in the order of the disk."""
    options = {"split": split, "decoders": {"image": tfds.decode.SkipDecoding()}}
    if builder.info.file_format is tfds.core.FileFormat.ARRAY_RECORD:
        return list(builder.as_data_source(**options))
    return list(builder.as_dataset(**options).as_numpy_iterator())


def assert_same(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for (image, label), reference in zip(ours, theirs, strict=True):
        with_pillow = np.asarray(Image.open(io.BytesIO(reference["image"])).convert("RGB"))
        np.testing.assert_array_equal(image, with_pillow)
        assert label == reference["label"]
        assert (image.dtype, label.dtype) == (np.uint8, np.int32)


@pytest.mark.parametrize(
    "part",
    ["train", "test", "train[:30%]", "train[5:17]", "train[-4:]", "test+train[60%:]", "all"],
)
def test_images_are_those_tensorflow_datasets_reads(photos, part):
    builder, data_dir = photos
    assert builder.info.splits["train"].num_shards == 4
    split = tfds_split("photos", part, data_dir)
    assert split.class_names == tuple(NAMES)
    theirs = references(builder, part)
    assert split.size == len(theirs)
    assert_same(examples(split), theirs)


def test_all_records_are_there(photos):
    names = {one["file_name"] for one in references(photos[0], "train")}
    assert len(names) == TRAINING == tfds_split("photos", "train", photos[1]).size


def test_a_part_of_an_image_can_be_had(photos):
    split = tfds_split("photos", "train", photos[1])
    parts = examples(split, lambda height, width: tf.stack([3, width - 9, height - 20, 8]))
    for (part, _), (image, _) in zip(parts, examples(split), strict=True):
        height, width = image.shape[:2]
        np.testing.assert_array_equal(part, image[3 : height - 17, width - 9 : width - 1])


def test_a_record_keeps_the_zeros_at_its_end(photos):
    split = tfds_split("photos", "train", photos[1])
    record = tf.train.Example.FromString(split.read(0))
    label = record.features.feature["label"]
    # The label 0 as the last of the fields, which is where it ends in a zero byte.
    label.int64_list.value[0] = 0
    last = tf.train.Example()
    last.features.feature["label"].CopyFrom(label)
    del record.features.feature["label"]
    data = record.SerializeToString() + last.SerializeToString()
    assert data.endswith(b"\0")
    _, found = dataclasses.replace(split, read=lambda number: data).example(tf.constant(0))
    assert found == 0


def test_shapes_are_known_before_an_image_is_read(photos):
    split = tfds_split("photos", "train", photos[1])
    image, label = tf.data.Dataset.range(1).map(split.example).element_spec
    assert (image.shape.rank, image.shape[-1], label.shape.rank) == (3, 3, 0)


def test_the_name_may_tell_the_version(photos):
    assert tfds_split("photos:1.2.0", "test", photos[1]).size == TESTING
    assert (
        tfds_split("photos:1.*.*", "test", photos[1]).name_of(3) == "image 3 of photos:1.*.* test"
    )


def test_grey_images_get_three_channels(tmp_path):
    builder = prepared(Greys, tmp_path)
    split = tfds_split("greys", "train", str(tmp_path))
    assert_same(examples(split), references(builder, "train"))


def test_hidden_labels_are_refused(tmp_path):
    prepared(Greys, tmp_path)
    message = "image 0 of greys test has no label .*not published. Name another split"
    with pytest.raises(DataError, match=message):
        tfds_split("greys", "test", str(tmp_path))


class Partly(Greys):
    """One image among many has no label."""

    def example(self, number):
        return super().example(number) | {"label": -1 if number == 11 else number % 3}


def test_a_single_image_without_a_label_is_named_once_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_convnext.data.sources.tfds.CHECKED", 1)
    prepared(Partly, tmp_path)
    split = tfds_split("partly", "train", str(tmp_path))
    message = r"image \d+ of partly train has no label"
    with pytest.raises(DataError, match=message), as_data_error(None, split):
        examples(split)


class Single(Greys):
    """All images are of one class."""

    FEATURES = (Greys.FEATURES[0], ("label", tfds.features.ClassLabel(names=["n02123045"])))

    def example(self, number):
        return super().example(number) | {"label": 0}


def test_one_class_is_never_trained(tmp_path):
    prepared(Single, tmp_path)
    data = Data(source="tfds", dataset="single", path=str(tmp_path), validation_split="test")
    with pytest.raises(
        DataError, match="single has one class, n02123045; training needs at least two"
    ):
        load_splits(data)
    assert tfds_split("single", "test", str(tmp_path), tuple(NAMES)).size == TESTING


def test_a_record_that_goes_bad_is_named(own_photos):
    builder, data_dir = own_photos
    split = tfds_split("photos", "train", data_dir)
    file = files_of(builder, "train")[0]
    file.write_bytes(bytes(len(file.read_bytes())))
    message = r"image \d+ of photos train cannot be read: "
    with pytest.raises(DataError, match=message), as_data_error(split):
        examples(split)


def test_classes_are_numbered_as_the_network_knows_them(photos):
    known = ("n02123045", "n00000000", "n01443537", "n01440764")
    split = tfds_split("photos", "test", photos[1], known)
    labels = [label for _, label in examples(split)]
    expected = [(3, 2, 0)[one["label"]] for one in references(photos[0], "test")]
    assert labels == expected
    assert split.class_names == known


def test_classes_the_network_does_not_know_are_refused(photos):
    with pytest.raises(DataError, match="photos holds classes .* lack: n01443537, n02123045"):
        tfds_split("photos", "test", photos[1], ("n01440764", "cat"))


def test_a_recipe_names_the_set_and_its_parts(photos):
    settings = {"source": "tfds", "dataset": "photos", "path": photos[1]}
    train, val = load_splits(Data(**settings, validation_split="train[:20%]"))
    assert (train.size, val.size) == (TRAINING, 5)
    train, val = load_splits(Data(**settings, training_split="test", validation_split=None))
    assert train.size == TESTING and val is None


def test_the_place_may_be_tensorflow_datasets_own(photos, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", photos[1])
    assert load_split("tfds:photos", "test").size == TESTING


def test_a_run_is_the_same_from_any_start(photos):
    split = tfds_split("photos", "train", photos[1])
    data = Data(source="tfds", dataset="photos", image_size=16, batch_size=5)
    augment = Augment(rand_augment=None)
    whole = list(training_dataset(split, data, augment, 2, 0).as_numpy_iterator())
    later = list(training_dataset(split, data, augment, 2, 0, start=3).as_numpy_iterator())
    assert len(whole) == 8
    for ours, expected in zip(later, whole[3:], strict=True):
        np.testing.assert_array_equal(ours[0], expected[0])


def test_records_are_indexed_once(own_photos, monkeypatch):
    _, data_dir = own_photos
    first = examples(tfds_split("photos", "train", data_dir))
    monkeypatch.setattr("keras_convnext.data.sources.tfrecord_index._spans_of", None)
    again = examples(tfds_split("photos", "train", data_dir))
    assert [label for _, label in first] == [label for _, label in again]


def files_of(builder, split):
    return [builder.data_path / name for name in builder.info.splits[split].filenames]


def test_files_written_anew_are_indexed_anew(own_photos):
    builder, data_dir = own_photos
    tfds_split("photos", "train", data_dir)
    file = files_of(builder, "train")[0]
    records = list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator())
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in reversed(records):
            writer.write(record)
    split = tfds_split("photos", "train", data_dir)
    assert [split.read(number) for number in range(len(records))] == records[::-1]


def test_a_file_cut_off_is_named(own_photos):
    builder, data_dir = own_photos
    file = files_of(builder, "train")[2]
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(
        DataError, match=f"{file.name} is incomplete or not a TFRecord file: .* end at"
    ):
        tfds_split("photos", "train", data_dir)


def test_a_file_of_fewer_records_is_named(own_photos):
    builder, data_dir = own_photos
    file = files_of(builder, "train")[2]
    count = builder.info.splits["train"].shard_lengths[2]
    record = next(iter(tf.data.TFRecordDataset(str(file)))).numpy()
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(record)
    with pytest.raises(DataError, match=f"{file.name} should have {count} records and has 1"):
        tfds_split("photos", "train", data_dir)


def test_a_missing_file_is_named(own_photos):
    builder, data_dir = own_photos
    file = files_of(builder, "test")[0]
    file.unlink()
    with pytest.raises(DataError, match=f"files .*{file.name} are missing. Prepare it again"):
        tfds_split("photos", "test", data_dir)


@pytest.mark.parametrize("name", ["imagenet_v2/matched-frequency", "photos:3.0.0", "no_such_set"])
def test_a_set_that_is_not_prepared_comes_with_the_command(photos, name):
    expected = f"set {name} is not prepared in {photos[1]}. .*: tfds build {name} --data_dir="
    with pytest.raises(DataError, match=expected) as caught:
        tfds_split(name, "test", photos[1])
    assert "consent" not in str(caught.value)


def test_imagenet_needs_consent(tmp_path):
    with pytest.raises(DataError, match="tfds build imagenet2012 .* your consent .* ILSVRC2012_"):
        tfds_split("imagenet2012", "train", str(tmp_path))


@pytest.mark.parametrize("name", ["no such set", "", "../photos"])
def test_what_is_no_name_is_refused(photos, name):
    with pytest.raises(DataError, match="is not a valid name of a data set: "):
        tfds_split(name, "train", photos[1])


@pytest.mark.parametrize("split", ["validation", None, "train[:200x]", "train[3:3]", ""])
def test_the_splits_there_are_named(photos, split):
    with pytest.raises(DataError, match=r"Its splits are train, test, and slices .* train\[:10%\]"):
        tfds_split("photos", split, photos[1])


def test_a_set_without_labels_is_refused_by_its_features(tmp_path):
    prepared(Masks, tmp_path)
    with pytest.raises(DataError, match=r"ClassLabel; it has .*mask \(Image\)"):
        tfds_split("masks", "train", str(tmp_path))


def test_images_of_floating_point_are_refused(tmp_path):
    prepared(Floats, tmp_path)
    with pytest.raises(DataError, match="images of floats are float32"):
        tfds_split("floats", "train", str(tmp_path))


def test_other_formats_are_refused(tmp_path):
    prepared(Photos, tmp_path, "parquet")
    with pytest.raises(DataError, match="prepared as parquet, whose records cannot be .* --file_f"):
        tfds_split("photos", "train", str(tmp_path))


@pytest.mark.parametrize("package", ["tensorflow_datasets", "array_record.python"])
def test_a_missing_package_is_asked_for(photos, monkeypatch, package):
    builder, data_dir = photos
    if package != "tensorflow_datasets" and builder.info.file_format.value != "array_record":
        pytest.skip("TFRecord files are read without it")
    name = "array_record.python.array_record_data_source" if "python" in package else package
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(MissingPackage, match=r"pip install 'keras-convnext\[train\]"):
        tfds_split("photos", "train", data_dir)


def test_a_folder_has_no_split(tmp_path):
    with pytest.raises(UserError, match="'test'.* is for data sets of TensorFlow Datasets"):
        load_split(tmp_path, "test")
