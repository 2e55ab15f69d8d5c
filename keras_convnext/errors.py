"""Errors that a user can fix. The command line prints their messages without a traceback."""


class UserError(ValueError):
    """The request cannot be carried out; the message says why and how to fix it."""


class RecipeError(UserError):
    """The recipe is invalid; the message lists every error in it."""


class DataError(UserError):
    """The data cannot be used."""


class RunError(UserError):
    """A run or a model is missing, or is in the way."""


class WeightsError(UserError):
    """Weights cannot be found, downloaded, read or loaded into a network."""


class SharedError(UserError):
    """An error of another process of the same run, which the process with rank 0 reports."""


class MissingPackage(UserError):
    """A required package is not installed.

    Args:
        purpose: The name and the purpose of the package, or of several.
        extra: The extra of keras-convnext that installs it.
        verb: `"are"` for several packages. Defaults to `"is"`.
    """

    def __init__(self, purpose: str, extra: str, verb: str = "is") -> None:
        super().__init__(f"{purpose} {verb} not installed: pip install 'keras-convnext[{extra}]'.")
