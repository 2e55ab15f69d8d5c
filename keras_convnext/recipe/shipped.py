"""The recipes that come with the package: where they lie, and what their headers say.

A wheel holds them in the folder `recipes` of the package. In a checkout that folder stands beside
the package.
"""

import dataclasses
import difflib
import re
from pathlib import Path

from keras_convnext.files import expanded

PACKAGE = Path(__file__).parents[1]
FIELD = re.compile(r"(Expected|Source|Data|Devices): (.*)")


@dataclasses.dataclass(frozen=True)
class RecipeHeader:
    """The first lines of a recipe that comes with the package.

    Args:
        name: The recipe's name, such as `quickstart/digits`.
        trains: The network, the data and the image size.
        expected: The accuracy to expect.
        source: The source of the accuracy and of the settings; empty for none.
        devices: The number of devices.
    """

    name: str
    trains: str
    expected: str
    source: str
    devices: str


def shipped_recipes() -> dict[str, Path]:
    """Returns the recipes that come with the package, by name, such as `quickstart/digits`."""
    folder = next(
        (place for place in (PACKAGE / "recipes", PACKAGE.parent / "recipes") if place.is_dir()),
        None,
    )
    if folder is None:
        return {}
    paths = sorted(folder.rglob("*.yaml"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def find_recipe(recipe: str | Path) -> Path:
    """Returns the file of a recipe.

    Args:
        recipe: A YAML file, or the name of a recipe that comes with the package. A file comes first
            if there are both.

    Returns:
        The file, or the path as it was given if there is neither.
    """
    path = expanded(recipe)
    return path if path.is_file() else shipped_recipes().get(str(recipe), path)


def similar_name(recipe: str | Path) -> str | None:
    """Returns the name of a recipe that is most similar to an unknown one, if one is similar.

    Example:
        >>> similar_name("recipes/quickstart/digit.yaml")
        'quickstart/digits'
    """
    wanted = Path(recipe).with_suffix("").as_posix().removeprefix("recipes/")
    names = list(shipped_recipes())
    by_last_part = {name.split("/")[-1]: name for name in names}
    nearest = difflib.get_close_matches(wanted, [*names, *by_last_part], n=1)
    return by_last_part.get(nearest[0], nearest[0]) if nearest else None


def read_header(name: str) -> RecipeHeader:
    """Returns what the header of a recipe that comes with the package says.

    Args:
        name: A name of `shipped_recipes`.
    """
    trains, fields, current = "", {}, ""
    for line in shipped_recipes()[name].read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.removeprefix("#").removeprefix(" ")
        trains = trains or text
        field = FIELD.match(text)
        if field:
            current = field[1]
            fields[current] = field[2]
        elif current:
            fields[current] += f" {text.strip()}"
    expected, source, devices = (
        _first_sentence(fields.get(field, "")) for field in ("Expected", "Source", "Devices")
    )
    return RecipeHeader(name, _first_sentence(trains), expected, source, devices)


def _first_sentence(text: str) -> str:
    return text.split(". ")[0].removesuffix(".")
