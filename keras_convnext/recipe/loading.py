"""Loads a recipe: reads the YAML file, applies overrides, and words every error as a sentence."""

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from keras_convnext.errors import RecipeError
from keras_convnext.recipe.renamed import RENAMED, RUN_HEADER, with_new_names
from keras_convnext.recipe.scalars import kinds_of
from keras_convnext.recipe.sections import Recipe
from keras_convnext.recipe.sections.base import Section
from keras_convnext.recipe.shipped import find_recipe, similar_name

NULL, MERGE = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"


def load_recipe(path: str | Path, overrides: tuple[str, ...] | list[str] = ()) -> Recipe:
    """Loads and checks a recipe.

    Args:
        path: A YAML file, or the name of a recipe that comes with the package, such as
            `"quickstart/digits"`; `keras-convnext recipe list` lists them.
        overrides: Settings that replace the file's, such as `"schedule.epochs=10"`. Defaults to
            none.

    Returns:
        The recipe, with every default filled in.

    Raises:
        RecipeError: If the file is missing or is not valid YAML. Otherwise the message lists every
            error in it: unknown keys (with the most similar known key), wrong types, and values
            that are out of range.

    Example:
        >>> recipe = load_recipe("quickstart/digits", ["runtime.seed=1"])
    """
    settings = _read_yaml(find_recipe(path))
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
    """Words an error of pydantic as a sentence, with the most similar key for an unknown one."""
    keys = [key for key in detail["loc"] if isinstance(key, str)]
    where = ".".join(str(key) for key in detail["loc"]) or "recipe"
    if where in RENAMED:
        return f"  {where}: this key is called {RENAMED[where]} now."
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
    if detail["type"] == "string_type":
        message = "expected text; put text that YAML reads as something else into quotes"
    if isinstance(received, dict | BaseModel):
        return f"  {where}: {message}."
    return f"  {where}: {message}. Received: {received!r}."


def _section(keys: list[str]) -> type[Section]:
    """Returns the section of the schema at a path of keys."""
    section: type[Section] = Recipe
    for key in keys:
        kinds = kinds_of(section.model_fields[key].annotation)
        section = next(k for k in kinds if isinstance(k, type) and issubclass(k, Section))
    return section


class _TextLoader(yaml.SafeLoader):
    """Loads YAML with every value as text or null; its field parses it later.

    Duplicate keys are refused; PyYAML silently keeps the last. An anchor without a value, as in
    `path: &photos`, is refused too; PyYAML reads it as null.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 (as PyYAML declares it)
        first: [(tag, pattern) for tag, pattern in resolvers if tag in (NULL, MERGE)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_scalar_node(self, anchor):
        node = super().compose_scalar_node(anchor)
        if anchor is not None and node.tag == NULL:
            raise yaml.composer.ComposerError(
                None, None, f"the anchor &{anchor} has no value", node.start_mark
            )
        return node

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key) for key, _ in node.value if key.tag != MERGE]
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
        similar = similar_name(path)
        raise RecipeError(
            f"There is no recipe {path}. "
            + (f"Did you mean {similar!r}? " if similar else "")
            + "Pass a YAML file, or a name that `keras-convnext recipe list` lists."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"The recipe {path} cannot be read: {error}.") from None
    try:
        settings = yaml.load(text, Loader=_TextLoader)
    except yaml.YAMLError as error:
        raise RecipeError(
            f"{path} is not valid YAML: {error}. Put text into quotes if it begins with a "
            f"character such as *, &, !, [, {{ or %, or contains `: ` or ` #`."
        ) from None
    if text.startswith(RUN_HEADER):
        settings = with_new_names(settings)
    if not isinstance(settings, dict):
        raise RecipeError(
            f"{path} must hold sections such as `model:` and `data:`, with their keys indented "
            f"below. Received: {type(settings).__name__}."
        )
    return settings


def _apply_override(settings: dict[str, Any], override: str) -> None:
    """Applies one `section.key=value` to `settings`; the key itself is checked later."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise RecipeError(
            f"An override must have the form section.key=value, such as schedule.epochs=10. "
            f"Received: {override!r}."
        )
    value = _value_of(path, text)
    *sections, key = path.split(".")
    for depth, section in enumerate(sections, start=1):
        inner = settings.setdefault(section, {})
        short_key = _short_key(sections[:depth])
        if inner is None:
            inner = settings[section] = {}
        elif short_key and not isinstance(inner, dict):
            inner = settings[section] = {short_key: inner}
        if not isinstance(inner, dict):
            raise RecipeError(f"{override!r} names keys below {section!r}, which holds {inner!r}.")
        settings = inner
    short_key = _short_key([*sections, key])
    if short_key and isinstance(settings.get(key), dict) and isinstance(value, int | str):
        settings[key][short_key] = value  # the section's other keys stay
    else:
        settings[key] = value


def _short_key(keys: list[str]) -> str | None:
    """Returns the key whose value may stand for the section at a path of keys, if it has one."""
    try:
        return _section(keys).SHORT_KEY
    except (KeyError, StopIteration):  # not a section, which is found later
        return None


def _value_of(path: str, text: str) -> Any:
    """Parses the value of an override: literally for a text field, as YAML for any other."""
    kinds = _kinds_at(path.split("."))
    if str in kinds:
        return None if type(None) in kinds and text in ("", "null") else text
    try:
        return yaml.load(text, Loader=_TextLoader)
    except yaml.YAMLError:
        raise RecipeError(f"The value of {path} is not valid YAML. Received: {text!r}.") from None


def _kinds_at(keys: list[str]) -> set[type]:
    """Returns the types a key accepts; text for an unknown key, which is refused later."""
    try:
        return kinds_of(_section(keys[:-1]).model_fields[keys[-1]].annotation)
    except (KeyError, StopIteration):
        return {str}
