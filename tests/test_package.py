import ast
import functools
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import keras_convnext

pytestmark = pytest.mark.backend_free

PACKAGE = Path(keras_convnext.__file__).parent
BACKENDS = {"keras", "tensorflow", "jax", "torch"}

# What may import what: every row only the rows above it, and itself where it is one package.
ROWS = [
    {"catalog", "errors", "files", "recipe", "console", "runtime", "keras_import", "text"},
    {"keras_private"},
    {"kernels", "optimizers", "schedules", "metric_values", "callbacks", "distribution"},
    {"layers", "weights", "runs"},
    {"models"},
    {"conversion", "data", "training"},
    {"benchmark", "evaluation"},
    {"tasks"},
    {"prediction", "serving"},
    {"workflows"},
    {"cli"},
    {"__main__"},
]
ROW_OF = {part: row for row, parts in enumerate(ROWS) for part in parts}
# The rows whose parts do not know each other either.
APART = [
    {"layers", "weights", "runs"},
    {"data", "training"},
    {"benchmark", "evaluation"},
]

# Modules that a recipe, the command line and this package itself need before a backend is chosen.
WITHOUT_BACKEND = [
    "",
    "catalog.architectures",
    "errors",
    "files",
    "recipe",
    "console",
    "runtime",
    "runs.plan",
    "benchmark.comparison",
    "cli",
    "catalog.checkpoints",
    "keras_import",
]


@functools.cache
def modules():
    """Returns every module of the package but its root, by its name below the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(node):
    """Returns the dotted names that an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def parts_imported(tree):
    """Returns the parts of the package that a module imports, at its top or inside a function."""
    names = [name.split(".") for node in ast.walk(tree) for name in imported(node)]
    return {name[1] for name in names if name[0] == "keras_convnext" and len(name) > 1} & set(
        ROW_OF
    )


def test_every_module_has_its_row():
    assert {name.split(".")[0] for name in modules()} == set(ROW_OF)


@pytest.mark.parametrize("module", modules())
def test_imports_go_one_way(module):
    part = module.split(".")[0]
    for other in parts_imported(modules()[module]) - {part}:
        assert ROW_OF[other] <= ROW_OF[part], f"{module} imports {other}, which stands above it"
        assert not any({part, other} <= pair for pair in APART), f"{module} imports {other}"


def test_no_import_is_relative():
    for name, tree in modules().items():
        for node in ast.walk(tree):
            assert not (isinstance(node, ast.ImportFrom) and node.level), name


@pytest.mark.parametrize("module", [name for name in WITHOUT_BACKEND if name])
def test_no_backend_at_the_top(module):
    tops = {name.split(".")[0] for node in modules()[module].body for name in imported(node)}
    assert tops & BACKENDS == set()


@pytest.mark.parametrize("module", WITHOUT_BACKEND)
def test_importing_it_imports_no_backend(module):
    name = f"keras_convnext.{module}".rstrip(".")
    script = f"import sys, {name}; print(sorted({BACKENDS} & set(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert process.stdout.strip() == "[]", process.stderr


@pytest.mark.golden
def test_the_public_names_are_these(matches_golden):
    matches_golden("api.txt", "".join(f"{name}\n" for name in sorted(keras_convnext.__all__)))


@pytest.mark.parametrize("name", keras_convnext.__all__)
def test_every_public_name_is_there(name):
    value = getattr(keras_convnext, name)
    assert value.__doc__ or isinstance(value, ModuleType)
    assert name in dir(keras_convnext)


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="has no attribute 'ConvNeXtHuge'"):
        _ = keras_convnext.ConvNeXtHuge


def test_models_are_listed_by_size():
    from keras_convnext.catalog.architectures import VARIANTS

    assert keras_convnext.list_models() == list(VARIANTS)
    for isotropic in (False, True):
        of_a_kind = [v for name, v in VARIANTS.items() if ("isotropic" in name) == isotropic]
        assert of_a_kind == sorted(of_a_kind, key=lambda variant: variant.parameters)
