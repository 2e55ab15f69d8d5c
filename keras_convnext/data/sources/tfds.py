"""Splits of data sets that TensorFlow Datasets has prepared.

Records are read by index, not as a stream. The order of a run is therefore the same as with any
other source: it is shuffled exactly, sharded between workers, and resumed at any step.
"""

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_convnext.data.sources.folder import labels_among
from keras_convnext.data.sources.image_check import message_of
from keras_convnext.data.sources.index_cache import index_directory
from keras_convnext.data.sources.recent_images import RecentImages
from keras_convnext.data.sources.shards import locate
from keras_convnext.data.sources.tfrecord_index import current_tfrecord_index
from keras_convnext.data.transforms.decode import Box, decode_rgb_part
from keras_convnext.errors import DataError, MissingPackage
from keras_convnext.recipe import Data
from keras_convnext.text import shortened

CHECKED = 16  # images of a split that are read before it is used


@dataclass(frozen=True)
class TfdsSplit:
    """Labelled images in the records of a prepared data set.

    Attributes:
        name: Name of the data set and of the split.
        size: Number of images.
        class_names: The classes that the network knows.
        read: Returns the record at an index.
        features: TensorFlow Datasets' features of the image and the label, by name.
        labels: The label of each class of the data set, an index into `class_names`.
        apply_orientation: Whether images are rotated as their EXIF orientation says.
        recent: The images requested last.
    """

    name: str
    size: int
    class_names: tuple[str, ...] = field(repr=False)
    read: Callable[[int], bytes] = field(repr=False)
    features: dict = field(repr=False)
    labels: np.ndarray = field(repr=False)
    apply_orientation: bool = True
    recent: RecentImages = field(default_factory=RecentImages, repr=False, compare=False)

    def example(self, index: tf.Tensor, box: Box | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        record = tf.numpy_function(self._record, [index], tf.string, stateful=False)
        encoded, label = self._image_and_label(tf.ensure_shape(record, ()))
        image = decode_rgb_part(encoded, box, self.apply_orientation)
        return image, tf.gather(self.labels, label)

    def pixels(self, index: int) -> np.ndarray:
        return self.example(index)[0].numpy()

    def label(self, index: int) -> int:
        return int(self.example(index)[1])

    def name_of(self, index: int) -> str:
        return f"image {index} of {self.name}"

    def unreadable(self) -> str | None:
        return self.recent.first_fault(self._fault_of)

    def _fault_of(self, index):
        try:
            encoded, label = self._image_and_label(self.read(index))
            decode_rgb_part(encoded, None, apply_orientation=False)
        except tf.errors.OpError as error:
            return f"{self.name_of(index)} cannot be read: {message_of(error)}"
        except Exception as error:  # the readers of records raise all kinds
            return f"{self.name_of(index)} cannot be read: {error}"
        if label >= 0:
            return None
        return (
            f"{self.name_of(index)} has no label (-1), as in test splits whose labels are not "
            f"published"
        )

    def check(self) -> None:
        """Raises a `DataError` if one of a few images cannot be read or has no label."""
        some = np.linspace(0, self.size - 1, min(self.size, CHECKED)).astype(int).tolist()
        fault = next(filter(None, map(self._fault_of, some)), None)
        if fault:
            raise DataError(f"{fault}. Name another split, or prepare the data set again.")

    def _image_and_label(self, record):
        """Returns the bytes of the image and the data set's own number of its class."""
        tfds = _tensorflow_datasets()
        image_key, label_key = self.features
        example = tfds.features.FeaturesDict(self.features).deserialize_example(
            record, decoders={image_key: tfds.decode.SkipDecoding()}
        )
        return example[image_key], example[label_key]

    def _record(self, index):
        self.recent.record(int(index))
        return self.read(int(index))


def tfds_splits(name: str, data: Data) -> tuple[TfdsSplit, TfdsSplit | None]:
    """Returns the training split of a prepared data set, and the validation split if it has one.

    Args:
        name: Name of the data set.
        data: The names of the splits, the data sets' directory, and how images are read.

    Raises:
        DataError: If the data set is not prepared or does not consist of labelled images.
    """

    def load(split):
        turns = data.apply_orientation
        return tfds_split(name, split, data.path, apply_orientation=turns, for_training=True)

    train = load(data.training_split)
    return train, None if data.validation_split is None else load(data.validation_split)


def tfds_split(
    name: str,
    split: str | None,
    data_dir: str | None = None,
    class_names: tuple[str, ...] | None = None,
    apply_orientation: bool = True,
    for_training: bool = False,
) -> TfdsSplit:
    """Returns a split of a data set that TensorFlow Datasets has prepared; nothing is downloaded.

    Args:
        name: Name of the data set, optionally with configuration and version, such as
            `"imagenet_v2/matched-frequency"`.
        split: A split of the data set, such as `"train"` or `"train[:10%]"`.
        data_dir: Directory of the data sets. Defaults to TensorFlow Datasets' own:
            `TFDS_DATA_DIR`, or else `~/tensorflow_datasets`.
        class_names: The classes that the network knows. Defaults to those of the data set.
        apply_orientation: Whether images are rotated as their EXIF orientation says.
        for_training: Whether to train on them, which takes at least two classes.

    Raises:
        DataError: If the data set is not prepared or does not consist of labelled images, if it has
            no such split, or if the split has no labels.
        MissingPackage: If TensorFlow Datasets is not installed.
    """
    builder = _builder(name, data_dir)
    features = _image_and_label(name, builder.info)
    _, label = features.values()
    own_names = tuple(label.int2str(number) for number in range(label.num_classes))
    if for_training and len(own_names) < 2:
        raise DataError(
            f"The data set {name} has one class, {shortened(own_names)}; training needs at least "
            f"two. Choose another data set, or another configuration of it."
        )
    names = class_names or own_names
    labels = labels_among(name, own_names, names)
    instructions = _file_instructions(name, builder.info, split)
    size = sum(one.take for one in instructions)
    read = _reader(name, builder, instructions)
    found = TfdsSplit(f"{name} {split}", size, names, read, features, labels, apply_orientation)
    found.check()
    return found


def _tensorflow_datasets():
    try:
        import tensorflow_datasets
    except ImportError:
        raise MissingPackage("TensorFlow Datasets, which reads the data,", "train") from None
    return tensorflow_datasets


def _builder(name, data_dir):
    """Opens a data set by its files alone, without its code and without the network."""
    tfds = _tensorflow_datasets()
    try:
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError:
        place = data_dir or tfds.core.constants.DATA_DIR
        raise DataError(
            f"The data set {name} is not prepared in {place}. Prepare it with: tfds build "
            f"{name} --data_dir={place}.{_consent(name, place)} For a data set with several "
            f"configurations, pass NAME/CONFIGURATION."
        ) from None
    except ValueError as error:
        raise DataError(
            f"{name!r} is not a valid name of a data set: {str(error).splitlines()[0]}"
        ) from None


def _consent(name, place):
    if not name.startswith("imagenet2012"):
        return ""
    return (
        " ImageNet's archives require your consent to its terms. First download "
        "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from https://image-net.org and put "
        f"them into {Path(place) / 'downloads/manual'}."
    )


def _image_and_label(name, info):
    """Returns the features of the image and of the label, in this order, by name."""
    features = _tensorflow_datasets().features
    if info.supervised_keys is not None:
        keys = info.supervised_keys
    else:
        keys = [
            key
            for kind in (features.Image, features.ClassLabel)
            for key, feature in info.features.items()
            if isinstance(feature, kind)
        ]
    found = {key: info.features[key] for key in keys if isinstance(key, str)}
    if [type(feature) for feature in found.values()] != [features.Image, features.ClassLabel]:
        raise DataError(
            f"The data set {name} does not consist of labelled images. It must have one Image and "
            f"one ClassLabel; it has {', '.join(map(_described, info.features.items()))}."
        )
    if found[keys[0]].np_dtype == np.float32:
        raise DataError(f"The images of {name} are float32; only uint8 and uint16 can be read.")
    return found


def _described(item):
    key, feature = item
    return f"{key} ({type(feature).__name__})"


def _file_instructions(name, info, split):
    """Returns the files and records that a split consists of."""
    if split is not None:
        try:
            instructions = info.splits[split].file_instructions
        except (KeyError, ValueError):
            instructions = []
        if instructions:
            return instructions
    raise DataError(
        f"The data set {name} has no split {split!r}, or the split is empty. Its splits are "
        f"{', '.join(info.splits)}, and slices such as {next(iter(info.splits))}[:10%]."
    )


def _reader(name, builder, instructions):
    format = builder.info.file_format.value
    if format == "array_record":
        return _array_record_source(instructions).__getitem__
    if format == "tfrecord":
        return _tfrecord_reader(Path(builder.data_path), instructions)
    raise DataError(
        f"The data set {name} is prepared as {format}, whose records cannot be read by index. "
        f"Prepare it as array_record or tfrecord: tfds build {name} --file_format=array_record."
    )


def _array_record_source(instructions):
    try:
        from array_record.python.array_record_data_source import ArrayRecordDataSource
    except ImportError:
        raise MissingPackage("array_record, which reads the data,", "train") from None
    return ArrayRecordDataSource(instructions)


def _tfrecord_reader(data_path, instructions):
    files = list(dict.fromkeys(Path(one.filename) for one in instructions))
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise DataError(
            f"The data set's files {shortened(missing)} are missing. Prepare it again, on a local "
            f"disk."
        )
    key = hashlib.sha256("\n".join(file.name for file in files).encode()).hexdigest()[:16]
    with index_directory(data_path) as directory:
        index = current_tfrecord_index(directory / key, files)
    places = [files.index(Path(one.filename)) for one in instructions]
    for one, place in zip(instructions, places, strict=True):
        if index.size_of(place) != one.examples_in_shard:
            raise DataError(
                f"{one.filename} should have {one.examples_in_shard} records and has "
                f"{index.size_of(place)}. Prepare the data set again."
            )
    ends = list(itertools.accumulate(one.take for one in instructions))

    def read(number):
        part, within = locate(ends, number)
        return index.read(places[part], instructions[part].skip + within)

    return read
