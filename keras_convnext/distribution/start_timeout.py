"""How long a process waits for the others to start."""

import os

from keras_convnext.errors import UserError

TIMEOUT = "KERAS_CONVNEXT_START_TIMEOUT"  # an environment variable, in seconds
DEFAULT_TIMEOUT = 300.0


def start_timeout(timeout: float | None = None) -> float:
    """Returns the seconds within which all processes must start.

    Args:
        timeout: The seconds. Defaults to `None`, those in the environment variable
            KERAS_CONVNEXT_START_TIMEOUT or, if it is not set, 300.

    Raises:
        UserError: If the variable is not a number.
    """
    if timeout is not None:
        return timeout
    value = os.environ.get(TIMEOUT, DEFAULT_TIMEOUT)
    try:
        return float(value)
    except ValueError as error:
        raise UserError(
            f"The environment variable {TIMEOUT} must be a number of seconds. Received: {value!r}."
        ) from error
