"""The choice of what to do with files that are not images."""

from keras_convnext.errors import UserError

CHOICES = ("error", "skip")


def check_on_bad_image(choice: str | None) -> None:
    """Raises a `UserError` if `on_bad_image` is neither a known choice nor `None`."""
    if choice is not None and choice not in CHOICES:
        raise UserError(
            f"`on_bad_image` (--on-bad-image) must be one of {', '.join(CHOICES)}. "
            f"Received: {choice!r}."
        )
