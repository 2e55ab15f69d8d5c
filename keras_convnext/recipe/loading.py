"""A recipe's YAML file: read, changed by settings, checked, and every error put into a sentence."""

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from keras_convnext.errors import RecipeError
from keras_convnext.files import expanded
from keras_convnext.recipe.sections import Recipe


def load_recipe(path: str | Path, overrides: tuple[str, ...] | list[str] = ()) -> Recipe:
    """Reads and checks a recipe.

    Args:
        path: The YAML file.
        overrides: Settings that replace the file's, such as `"schedule.epochs=10"`.

    Raises:
        RecipeError: If the file is missing or no YAML, or with every error in it: unknown keys
            (with the nearest one that exists), wrong types, values out of range.

    Example:
        >>> recipe = load_recipe("recipes/quickstart/digits.yaml", ["runtime.seed=1"])
    """
    settings = _read_yaml(expanded(path))
    for override in overrides:
        _apply_override(settings, override)
    return _checked(settings, str(path))


def _checked(settings: dict[str, Any], source: str) -> Recipe:
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        lines = [_sentence(detail) for detail in error.errors()]
        count = "1 error" if len(lines) == 1 else f"{len(lines)} errors"
        raise RecipeError("\n".join([f"{source}: {count}", *lines])) from None


def _sentence(detail) -> str:
    """Words one of pydantic's errors, and names the nearest key where one is unknown."""
    keys = [key for key in detail["loc"] if isinstance(key, str)]
    where = ".".join(str(key) for key in detail["loc"]) or "recipe"
    if detail["type"] == "extra_forbidden":
        known = list(_section(keys[:-1]).model_fields)
        nearest = difflib.get_close_matches(keys[-1], known, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        return f"  {where}: unknown key.{hint} The keys here are: {', '.join(known)}."
    if detail["type"] == "missing":
        return f"  {where}: this key is required."
    if detail["type"] == "model_type":
        return f"  {where}: expected keys indented below it. Received: {detail['input']!r}."
    message = detail["msg"].removeprefix("Value error, ").rstrip(".")
    received = detail["input"]
    if isinstance(received, dict | BaseModel):
        return f"  {where}: {message}."
    return f"  {where}: {message}. Received: {received!r}."


def _section(keys: list[str]) -> type[BaseModel]:
    """Returns the section of the schema that `keys` lead to."""
    section: type[BaseModel] = Recipe
    for key in keys:
        annotation = section.model_fields[key].annotation
        kinds = [annotation, *getattr(annotation, "__args__", ())]
        section = next(k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel))
    return section


class _StrictLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice, of which PyYAML silently keeps the last."""

    def construct_mapping(self, node, deep=False):
        merge = "tag:yaml.org,2002:merge"
        keys = [self.construct_object(key) for key, _ in node.value if key.tag != merge]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"There is no recipe {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"The recipe {path} cannot be read: {error}.") from None
    try:
        settings = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is no valid YAML: {error}.") from None
    if not isinstance(settings, dict):
        raise RecipeError(
            f"{path} must hold sections such as `model:` and `data:`, with their keys indented "
            f"below. Received: {type(settings).__name__}."
        )
    return settings


def _apply_override(settings: dict[str, Any], override: str) -> None:
    """Puts one `section.key=value` into `settings`; whether the key exists is checked later."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise RecipeError(
            f"A setting is changed by section.key=value, such as schedule.epochs=10. "
            f"Received: {override!r}."
        )
    try:
        value = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError:
        raise RecipeError(f"The value of {path} is no valid YAML. Received: {text!r}.") from None
    *sections, key = path.split(".")
    for section in sections:
        inner = settings.setdefault(section, {})
        if inner is None:
            inner = settings[section] = {}
        if not isinstance(inner, dict):
            raise RecipeError(f"{override!r} names keys below {section!r}, which holds {inner!r}.")
        settings = inner
    settings[key] = value
