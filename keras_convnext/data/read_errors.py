"""A pipeline's failure, told as which image cannot be read."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from keras_convnext.data.sources.load import Split
from keras_convnext.errors import DataError

# What reading and decoding fail with; a full memory, for one, has nothing to do with an image.
KINDS = (
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    tf.errors.FailedPreconditionError,
    tf.errors.DataLossError,
    tf.errors.UnavailableError,
    tf.errors.UnknownError,
)


@contextlib.contextmanager
def unreadable_named(*splits: Split | None, advice: str = "") -> Iterator[None]:
    """Turns TensorFlow's error within, if an image is its cause, into a sentence about that image.

    An image may have become bad, or disappeared, after it was checked, or was never checked.

    Args:
        splits: Those whose images are used within.
        advice: What to do besides mending the image.

    Raises:
        DataError: If one of the images last asked for cannot be read. Other errors pass.
    """
    try:
        yield
    except KINDS as error:
        for split in splits:
            fault = split and split.unreadable()
            if fault:
                raise DataError(
                    f"{fault}. It has changed since it was checked, or images are not checked "
                    f"(data.check_images=false). Put a whole image in its place.{advice}"
                ) from error
        raise
