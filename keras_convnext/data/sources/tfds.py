"""Data sets of TensorFlow Datasets that were prepared before, as splits.

Records are read by number rather than as a stream, so that a run's order is the same as with any
other source: shuffled exactly, shared by workers, gone on with at any step.
"""

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_convnext.data.sources.folder import labels_among
from keras_convnext.data.sources.image_check import in_a_line
from keras_convnext.data.sources.index_cache import index_directory
from keras_convnext.data.sources.requested import Requested
from keras_convnext.data.sources.shards import place_among
from keras_convnext.data.sources.tfrecord_index import current_tfrecord_index
from keras_convnext.data.transforms.decode import Box, decode_rgb_part
from keras_convnext.errors import DataError, MissingPackage
from keras_convnext.text import shortened

LOOKED_AT = 16  # images of a split, before it is used


@dataclass(frozen=True)
class TfdsSplit:
    """Labelled images in the records of a prepared data set.

    Attributes:
        name: Of the data set and the split.
        size: How many images there are.
        class_names: The classes the network knows.
        read: Gives a record by its number.
        features: The image and the label as TensorFlow Datasets describes them, by their names.
        labels: The number among `class_names` of every class of the data set.
        apply_orientation: Whether images are turned as their EXIF says.
    """

    name: str
    size: int
    class_names: tuple[str, ...] = field(repr=False)
    read: Callable[[int], bytes] = field(repr=False)
    features: dict = field(repr=False)
    labels: np.ndarray = field(repr=False)
    apply_orientation: bool = True
    requested: Requested = field(default_factory=Requested, repr=False, compare=False)

    def example(self, index: tf.Tensor, box: Box | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        record = tf.numpy_function(self._record, [index], tf.string, stateful=False)
        encoded, label = self._image_and_label(tf.ensure_shape(record, ()))
        image = decode_rgb_part(encoded, box, self.apply_orientation)
        return image, tf.gather(self.labels, label)

    def name_of(self, index: int) -> str:
        return f"image {index} of {self.name}"

    def unreadable(self) -> str | None:
        return self.requested.first_fault(self._fault_of)

    def _fault_of(self, index):
        try:
            encoded, label = self._image_and_label(self.read(index))
            decode_rgb_part(encoded, None, apply_orientation=False)
        except tf.errors.OpError as error:
            return f"{self.name_of(index)} cannot be read: {in_a_line(error)}"
        except Exception as error:  # whatever the reader of the records raises
            return f"{self.name_of(index)} cannot be read: {error}"
        if label >= 0:
            return None
        return (
            f"{self.name_of(index)} has no label (-1), as in splits whose predictions are judged "
            f"elsewhere"
        )

    def refuse_unusable(self) -> None:
        """Raises a `DataError` if an image cannot be read or has no label; some are looked at."""
        some = np.linspace(0, self.size - 1, min(self.size, LOOKED_AT)).astype(int).tolist()
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
        self.requested.note(int(index))
        return self.read(int(index))


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
        name: Of the data set, with its configuration and version if need be, such as
            `"imagenet_v2/matched-frequency"`.
        split: Of the data set, such as `"train"` or `"train[:10%]"`.
        data_dir: Where the data sets lie. Defaults to TensorFlow Datasets' own place:
            `TFDS_DATA_DIR`, or else `~/tensorflow_datasets`.
        class_names: The classes the network knows; by default those of the data set.
        apply_orientation: Whether images are turned as their EXIF says.
        for_training: Whether a network is to be trained on them, which takes two classes at least.

    Raises:
        DataError: If the data set is not there, or holds no labelled images, or there is no such
            split, or its labels are hidden.
        MissingPackage: If TensorFlow Datasets is not installed.
    """
    builder = _builder(name, data_dir)
    features = _image_and_label(name, builder.info)
    _, label = features.values()
    own_names = tuple(label.int2str(number) for number in range(label.num_classes))
    if for_training and len(own_names) < 2:
        raise DataError(
            f"The data set {name} has one class, {shortened(own_names)}, and a network needs two "
            f"at least to tell apart. Choose another one, or another configuration of it."
        )
    names = class_names or own_names
    labels = labels_among(name, own_names, names)
    instructions = _file_instructions(name, builder.info, split)
    size = sum(one.take for one in instructions)
    read = _reader(name, builder, instructions)
    found = TfdsSplit(f"{name} {split}", size, names, read, features, labels, apply_orientation)
    found.refuse_unusable()
    return found


def _tensorflow_datasets():
    try:
        import tensorflow_datasets
    except ImportError:
        raise MissingPackage("TensorFlow Datasets, which reads the data,", "train") from None
    return tensorflow_datasets


def _builder(name, data_dir):
    """Finds a data set by its files alone: neither its code nor the network is asked."""
    tfds = _tensorflow_datasets()
    try:
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError:
        place = data_dir or tfds.core.constants.DATA_DIR
        raise DataError(
            f"The data set {name} is not prepared in {place}. Prepare it before, with: tfds build "
            f"{name} --data_dir={place}.{_consent(name, place)} A data set of several "
            f"configurations is called NAME/CONFIGURATION."
        ) from None
    except ValueError as error:
        raise DataError(
            f"{name!r} cannot be the name of a data set: {str(error).splitlines()[0]}"
        ) from None


def _consent(name, place):
    if not name.startswith("imagenet2012"):
        return ""
    return (
        " ImageNet's archives come only with your consent to its terms: download "
        "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from https://image-net.org yourself "
        f"and put them into {Path(place) / 'downloads/manual'} first."
    )


def _image_and_label(name, info):
    """Returns the features that are the image and the label, by their names and in this order."""
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
            f"The data set {name} is not one of labelled images: one Image and one ClassLabel are "
            f"needed, and it has {', '.join(map(_described, info.features.items()))}."
        )
    if found[keys[0]].np_dtype == np.float32:
        raise DataError(f"The images of {name} are of float32; uint8 and uint16 can be read.")
    return found


def _described(item):
    key, feature = item
    return f"{key} ({type(feature).__name__})"


def _file_instructions(name, info, split):
    """Returns which records of which files a split is."""
    if split is not None:
        try:
            instructions = info.splits[split].file_instructions
        except (KeyError, ValueError):
            instructions = []
        if instructions:
            return instructions
    raise DataError(
        f"Of the data set {name} there is no split {split!r}, or nothing in it. Its splits are "
        f"{', '.join(info.splits)}, and parts of them, such as {next(iter(info.splits))}[:10%]."
    )


def _reader(name, builder, instructions):
    format = builder.info.file_format.value
    if format == "array_record":
        return _array_record_source(instructions).__getitem__
    if format == "tfrecord":
        return _tfrecord_reader(Path(builder.data_path), instructions)
    raise DataError(
        f"The data set {name} is prepared as {format}, whose records cannot be read by number. "
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
            f"The data set lacks the files {shortened(missing)}. Prepare it again, on a disk of "
            f"this machine."
        )
    key = hashlib.sha256("\n".join(file.name for file in files).encode()).hexdigest()[:16]
    with index_directory(data_path) as directory:
        index = current_tfrecord_index(directory / key, files)
    places = [files.index(Path(one.filename)) for one in instructions]
    for one, place in zip(instructions, places, strict=True):
        if index.size_of(place) != one.examples_in_shard:
            raise DataError(
                f"{one.filename} should hold {one.examples_in_shard} records and holds "
                f"{index.size_of(place)}. Prepare the data set again."
            )
    ends = list(itertools.accumulate(one.take for one in instructions))

    def read(number):
        part, within = place_among(ends, number)
        return index.read(places[part], instructions[part].skip + within)

    return read
