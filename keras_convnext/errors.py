"""Errors that a user can mend. Their messages are sentences; the command line prints them alone."""


class UserError(ValueError):
    """What was asked for cannot be done as it is; the message says why and what to change."""


class RecipeError(UserError):
    """A recipe that cannot be run; the message lists everything that is wrong with it."""


class DataError(UserError):
    """Data that cannot be used."""


class RunError(UserError):
    """A run or a model that is not there, or that is in the way."""


class WeightsError(UserError):
    """Weights that cannot be found, fetched, read or put into a network."""


class MissingPackage(UserError):
    """A package that is needed is not installed.

    Args:
        purpose: Its name and what it is needed for, of one package or of several.
        extra: The extra of this package that brings it.
        verb: `"are"` for several packages. Defaults to `"is"`.
    """

    def __init__(self, purpose: str, extra: str, verb: str = "is") -> None:
        super().__init__(f"{purpose} {verb} not installed: pip install 'keras-convnext[{extra}]'.")
