"""What an editor and mypy are told about the public names: `__init__.pyi` beside `__init__.py`."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import keras_convnext

pytestmark = pytest.mark.backend_free

PACKAGE = Path(keras_convnext.__file__).parent
STUB = PACKAGE / "__init__.pyi"


# Keras comes without types; reading those of the other packages would take most of the time.
CONFIG = """
[mypy]
ignore_missing_imports = True
follow_imports = silent

[mypy-torch.*,tensorflow.*,jax.*,matplotlib.*,sklearn.*,huggingface_hub.*,transformers.*,onnx.*]
follow_imports = skip

[mypy-openvino.*,nncf.*,tensorboard.*,tensorflow_datasets.*,keras_cv.*,rich.*,scipy.*,PIL.*]
follow_imports = skip
"""


def homes_in_the_stub():
    """Returns the public names of the stub: the module they are imported from, and their name."""
    homes = {}
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ImportFrom):
            continue
        module = node.module.removeprefix("keras_convnext").removeprefix(".")
        for alias in node.names:
            assert alias.asname == alias.name, f"{alias.name} is not re-exported: 'as' is missing"
            homes[alias.name] = (module, alias.name)
    return homes


def test_the_stub_lists_the_names_that_can_be_imported():
    homes = {}
    for name, home in keras_convnext._HOMES.items():
        module, colon, attribute = home.partition(":")
        homes[name] = (module, attribute) if colon else tuple(f".{home}".rsplit(".", 1))
    homes = {name: (module.removeprefix("."), last) for name, (module, last) in homes.items()}
    assert homes_in_the_stub() == homes


@pytest.fixture(scope="module")
def mypy(tmp_path_factory):
    """Type-checks a script as a user does; returns the lines that mypy prints."""
    folder = tmp_path_factory.mktemp("types")
    (folder / "mypy.ini").write_text(CONFIG)

    def check(script):
        file = folder / "script.py"
        file.write_text(script)
        process = subprocess.run(
            [sys.executable, "-m", "mypy", "--cache-dir", folder / "cache", file.name],
            env={**os.environ, "MYPYPATH": str(PACKAGE.parent)},
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert not process.stderr, process.stderr
        return process.stdout.splitlines()[:-1]

    return check


def test_every_public_name_has_a_type(mypy):
    names = keras_convnext.__all__
    script = "import keras_convnext\n"
    script += "".join(f"reveal_type(keras_convnext.{name})\n" for name in names)
    revealed = mypy(script)
    assert len(revealed) == len(names)
    for name, line in zip(names, revealed, strict=True):
        assert 'Revealed type is "Any"' not in line, name


USER_SCRIPT = """
import keras_convnext
from keras_convnext import Evaluation, Prediction, Predictor, Recipe, RunDirectory
from keras_convnext.errors import UserError

model = keras_convnext.ConvNeXtTiny(weights="imagenet", classes=10, drop_path_rate=0.1)
predictor: Predictor = Predictor.load("convnext_tiny.fb_in1k")
best: Prediction = predictor.predict("cat.jpg", top=1)[0][0]
recipe: Recipe = keras_convnext.load_recipe("recipe.yaml", ["schedule.epochs=1"])
try:
    run, evaluation = keras_convnext.train(recipe)
except UserError as error:
    raise SystemExit(str(error)) from None
directory: RunDirectory = run
figures: Evaluation | None = evaluation
names: list[str] = keras_convnext.list_weights("convnext_tiny")
classes: tuple[str, ...] = keras_convnext.imagenet.class_names()
optimizer = keras_convnext.optimizers.AdamW(5e-5, layer_decay=0.8)
"""


def test_a_correct_script_passes(mypy):
    assert mypy(USER_SCRIPT) == []


MISTAKES = [
    ("keras_convnext.list_weights(5)", 'incompatible type "int"'),
    ("keras_convnext.Predictor.load('run').predict('a.jpg', top='5')", '"top"'),
    ("keras_convnext.ConvNeXt(depths=(1,), dims=(8,), drop_path_rate='0.1')", "drop_path_rate"),
    ("keras_convnext.ConvNeXt((1,), (8,), drop_path=0.1)", 'keyword argument "drop_path"'),
    ("keras_convnext.ConvNextTiny()", 'has no attribute "ConvNextTiny"'),
    ("keras_convnext.train('recipe.yaml').path", 'has no attribute "path"'),
]


def test_every_mistake_is_an_error(mypy):
    lines = ["import keras_convnext", *(mistake for mistake, _ in MISTAKES)]
    printed = mypy("\n".join(lines) + "\n")
    for number, (_, message) in enumerate(MISTAKES, start=2):
        (error,) = [line for line in printed if line.startswith(f"script.py:{number}: error: ")]
        assert message in error
