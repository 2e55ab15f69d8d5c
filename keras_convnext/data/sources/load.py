"""Loads the splits of a recipe's data set, or images to evaluate on."""

from pathlib import Path

from keras_convnext.data.sources.digits import digits
from keras_convnext.data.sources.folder import image_folder, image_folders
from keras_convnext.data.sources.split import Split
from keras_convnext.errors import UserError
from keras_convnext.recipe import Data

TFDS = "tfds:"  # prefix of a data set's name, where a folder is possible too


def load_splits(data: Data) -> tuple[Split, Split | None]:
    """Returns the training split of a recipe's data set, and the validation split if it has one.

    Raises:
        DataError: If the data cannot be used.
    """
    if data.dataset is not None:
        from keras_convnext.data.sources.tfds import tfds_splits

        return tfds_splits(data.dataset, data)
    if data.path is not None:
        return image_folders(data.path, data)
    return digits(data.test_fraction, data.split_seed)


def check_split_has_data(data: str | Path | None, split: str | None) -> None:
    """Raises a `UserError` if `split` is given without `data`."""
    if data is None and split is not None:
        raise UserError("`split` goes with `data`, as tfds:NAME; give both or neither.")


def load_split(
    data: str | Path,
    split: str | None = None,
    on_bad_image: str = "error",
    class_names: tuple[str, ...] | None = None,
    apply_orientation: bool = True,
) -> Split:
    """Returns labelled images to evaluate on.

    Args:
        data: A folder with one folder of images per class, or `tfds:NAME`.
        split: With `tfds:NAME`, the split's name.
        on_bad_image: With a folder, `"error"` or `"skip"`, for files that are not images.
        class_names: The classes that the network knows. Defaults to those of the data.
        apply_orientation: Whether images are rotated as their EXIF orientation says.

    Raises:
        UserError: If the data cannot be used.
    """
    if str(data).startswith(TFDS):
        from keras_convnext.data.sources.tfds import tfds_split

        name = str(data).removeprefix(TFDS)
        return tfds_split(name, split, None, class_names, apply_orientation)
    if split is not None:
        raise UserError(
            f"`split` ({split!r}) is for data sets of TensorFlow Datasets, such as "
            f"tfds:imagenet_v2. Received as data: {data}. Pass the folder of the split as `data`."
        )
    return image_folder(data, on_bad_image, class_names, apply_orientation=apply_orientation)
