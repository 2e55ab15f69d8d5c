"""What a user may say about the choice of kernels."""

import os


def reference_is_forced() -> bool:
    """Whether the environment variable `KERAS_CONVNEXT_KERNELS` asks for Keras's own operations.

    Raises:
        ValueError: If it is set to anything but `auto` or `reference`.
    """
    setting = os.environ.get("KERAS_CONVNEXT_KERNELS", "auto")
    if setting not in ("auto", "reference"):
        raise ValueError(
            f"The environment variable KERAS_CONVNEXT_KERNELS must be 'auto' or 'reference'. "
            f"Received: {setting!r}."
        )
    return setting == "reference"
