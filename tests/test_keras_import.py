"""`import keras_convnext` before `import keras`: no backend is chosen, and models still load."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_convnext

MODULE = Path(keras_convnext.__file__).with_name("keras_import.py")


def run(script, *arguments, **environment):
    """Runs a script in a process of its own and returns what it prints."""
    process = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.split()


LOAD = """
import os, pathlib, pickle, sys
import keras_convnext
assert not {"keras", "tensorflow", "jax", "torch"} & set(sys.modules)
folder = pathlib.Path(sys.argv[1])
os.environ["KERAS_BACKEND"] = sys.argv[2]  # still in time
unpickled = pickle.loads((folder / "model.pickle").read_bytes())  # imports Keras
import keras
loaded = keras.saving.load_model(folder / "model.keras")
print(keras.backend.backend())
for model in (unpickled, loaded):
    print(type(model.get_layer("stem")).__module__, model.get_weights()[0].sum())
"""


def test_models_load_and_are_unpickled_where_keras_is_imported_afterwards(tmp_path):
    model = keras_convnext.ConvNeXt((1,), (4,), kernel_size=3, classes=2, input_shape=(8, 8, 3))
    model.save(tmp_path / "model.keras")
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(model))
    backend = keras.backend.backend()

    printed = run(LOAD, tmp_path, backend, KERAS_BACKEND="")

    total = model.get_weights()[0].sum()
    for module, value in (printed[1:3], printed[3:5]):
        assert module == "keras_convnext.layers.stem"
        assert float(value) == pytest.approx(total, rel=1e-5)
    assert (printed[0], len(printed)) == (backend, 5)


# The module alone beside a package that stands for Keras and fails as often as it is told to.
STAND_IN = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("keras_import", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
sys.path.insert(0, sys.argv[2])
before = list(sys.meta_path)
module.when_keras_is_imported(lambda: print("acted", sys.modules["keras"].ready))
importlib.util.find_spec("keras")
print("found")
for _ in range(int(sys.argv[3])):
    try:
        import keras
    except ImportError:
        print("failed")
import keras
print(type(keras.__loader__).__name__, sys.meta_path == before)
importlib.reload(keras)
module.when_keras_is_imported(lambda: print("at once"))
"""


@pytest.mark.backend_free
@pytest.mark.parametrize("failures", [0, 1, 2])
def test_action_is_done_once_after_the_import_that_succeeds(failures, tmp_path):
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "__init__.py").write_text(
        "import builtins\n"
        "left = builtins.__dict__.setdefault('failures_left', [None] * "
        f"{failures})\n"
        "if left:\n    left.pop()\n    raise ImportError('not yet')\n"
        "ready = True\n"
    )

    printed = run(STAND_IN, MODULE, tmp_path, failures)

    expected = ["found", *["failed"] * failures, "acted", "True", "SourceFileLoader", "True"]
    assert printed == [*expected, "at", "once"]


@pytest.mark.backend_free
def test_keras_that_is_not_installed_is_missed_as_always(tmp_path):
    script = """
import keras_convnext, sys
sys.path = [path for path in sys.path if "site-packages" not in path]
sys.path_importer_cache.clear()
try:
    import keras
except ModuleNotFoundError as error:
    print(error.name)
"""
    assert run(script) == ["keras"]
