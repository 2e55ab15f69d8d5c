class DataError(ValueError):
    """Data that cannot be used; the message says what is wrong and how to mend it."""
