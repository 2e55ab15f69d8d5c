"""Docstrings here have a section "Example:"; griffe renders code only below "Examples:"."""

import re

import griffe


class PluralExamples(griffe.Extension):
    """Renames the section before a docstring is parsed."""

    def on_instance(self, *, obj, **_):
        """Handles every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE
            )
