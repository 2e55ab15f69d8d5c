"""Turns a failure of a pipeline into an error that names the unreadable image."""

import contextlib
import sys
from collections.abc import Iterator

from keras_convnext.data.sources.load import Split
from keras_convnext.errors import DataError

# The errors of reading and decoding. Others, such as a lack of memory, have no image as cause.
KINDS = (
    "InvalidArgumentError",
    "NotFoundError",
    "PermissionDeniedError",
    "FailedPreconditionError",
    "DataLossError",
    "UnavailableError",
    "UnknownError",
)


@contextlib.contextmanager
def as_data_error(*splits: Split | None, advice: str = "") -> Iterator[None]:
    """Turns a TensorFlow error that an unreadable image causes into a `DataError` that names it.

    An image may have been damaged or removed after it was checked, or was never checked.

    Args:
        splits: The splits whose images are read in the block; `None` is ignored.
        advice: Advice beside replacing the image. Defaults to none.

    Raises:
        DataError: If one of the last requested images cannot be read. Other errors propagate.
    """
    try:
        yield
    except Exception as error:
        if not _is_read_error(error):
            raise
        for split in splits:
            fault = split and split.unreadable()
            if fault:
                raise DataError(
                    f"{fault}. It has changed since it was checked, or images are not checked "
                    f"(data.check_images=false). Put a whole image in its place.{advice}"
                ) from error
        raise


def _is_read_error(error: Exception) -> bool:
    tensorflow = sys.modules.get("tensorflow")  # otherwise the error is none of its
    return tensorflow is not None and isinstance(
        error, tuple(getattr(tensorflow.errors, kind) for kind in KINDS)
    )
