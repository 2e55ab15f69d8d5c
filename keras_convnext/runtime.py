"""The choice of the backend, to be made before Keras is imported, and what goes with it."""

import contextlib
import importlib
import importlib.util
import os
import platform
import random
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from keras_convnext.errors import MissingPackage, UserError
from keras_convnext.recipe import Runtime

# Read when XLA and cuBLAS are first used, so they are set before the backend is imported.
DETERMINISTIC_XLA = "--xla_gpu_deterministic_ops=true"
CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
BACKENDS = ("tensorflow", "jax", "torch")
PACKAGES = ("keras", "tensorflow", "jax", "torch", "keras-cv", "numpy", "keras-convnext")


def choose_backend(name: str | None) -> None:
    """Makes Keras use a backend, or checks that the one it has is there.

    Args:
        name: `"tensorflow"`, `"jax"` or `"torch"`; `None` leaves the choice to the environment
            variable KERAS_BACKEND or to Keras's own configuration file.

    Raises:
        UserError: If Keras or KERAS_BACKEND has settled on another backend already.
        MissingPackage: If the backend is not installed.
    """
    if "keras" in sys.modules:
        import keras

        settled, by = keras.backend.backend(), "Keras was imported with"
    else:
        settled, by = os.environ.get("KERAS_BACKEND"), "the environment variable KERAS_BACKEND is"
    if name is not None and settled not in (None, name):
        raise UserError(
            f"The backend should be {name!r}, but {by} {settled!r}. Make the two agree, or leave "
            f"the backend out of the recipe."
        )
    chosen = name or settled
    if chosen is not None:
        if chosen not in BACKENDS:
            raise UserError(f"{by} {chosen!r}; it must be one of {', '.join(BACKENDS)}.")
        if not importlib.util.find_spec(chosen):
            raise MissingPackage(f"The backend {chosen!r}", chosen)
        os.environ["KERAS_BACKEND"] = chosen
    # PyTorch's threads would otherwise spin while they wait, and take the processors from tf.data.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def default_backend() -> str:
    """Returns the backend that KERAS_BACKEND or, without it, Keras's configuration names."""
    if "KERAS_BACKEND" in os.environ:
        return os.environ["KERAS_BACKEND"]
    import keras

    return keras.backend.backend()


def start_quietly(backend: str | None = None, deterministic: bool = False) -> None:
    """Chooses the backend and imports it and TensorFlow, whose tf.data reads the images.

    For the command line: what TensorFlow prints while it is imported, which no setting of its own
    stops, is kept back unless the import fails.

    Args:
        backend: As in `choose_backend`. Defaults to `None`.
        deterministic: Whether the backend is told to give the same bits every time, which some must
            be told before they are imported. Defaults to `False`.

    Raises:
        UserError: If the backend cannot be had; see `choose_backend`.
        MissingPackage: If TensorFlow or Keras's configured backend is not installed.
    """
    choose_backend(backend)
    if deterministic:
        _prepare_determinism()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _kept_back_stderr():
            importlib.import_module("keras")  # first: torch must be imported before TensorFlow
            # The search for GPUs speaks too, and would do so at the first use.
            importlib.import_module("tensorflow").config.list_physical_devices()
    except ModuleNotFoundError as error:
        raise MissingPackage(f"{error.name!r}, which is needed here,", "train") from error


@contextlib.contextmanager
def _kept_back_stderr():
    """Holds back what native code writes to the error stream; shows it if the block fails."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(terminal, 2)
            kept.seek(0)
            sys.stderr.write(kept.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def refuse_missing(packages: Mapping[str, str], extra: str) -> None:
    """Raises a `MissingPackage` that names all packages that are not installed.

    Args:
        packages: By the names they are imported under, what they are called and what for.
        extra: The extra of this package that brings them.

    Example:
        >>> refuse_missing({"sklearn": "scikit-learn, which holds the digits,"}, "train")
    """
    missing = [words for name, words in packages.items() if not importlib.util.find_spec(name)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise MissingPackage(" and ".join(missing), extra, verb)


@contextlib.contextmanager
def configured(runtime: Runtime) -> Iterator[None]:
    """Within, Keras is set up as by `configure`; afterwards as it was before.

    What comes back is the dtype policy, the data format, PyTorch's choice of deterministic
    algorithms, and the state of the generators of Python and NumPy, from which a program may draw
    what it trains next. What has no way back stays: TensorFlow's determinism, and the seed of
    Keras's and the backends' generators.

    Raises:
        UserError: As `configure` does.
    """
    choose_backend(runtime.backend)
    import keras

    policy, data_format = keras.config.dtype_policy(), keras.config.image_data_format()
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with _pytorch_as_it_was():
        try:
            configure(runtime)
            yield
        finally:
            keras.config.set_dtype_policy(policy)
            keras.config.set_image_data_format(data_format)
            random.setstate(python_state)
            np.random.set_state(numpy_state)


@contextlib.contextmanager
def _pytorch_as_it_was():
    import keras

    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


def configure(runtime: Runtime) -> None:
    """Sets Keras up for a run: backend, precision, data format, seed and determinism.

    Raises:
        UserError: If the backend cannot be had; see `choose_backend`. Or if it is too late to make
            it deterministic.
    """
    choose_backend(runtime.backend)
    import keras

    keras.config.set_dtype_policy(runtime.precision)
    # tf.data delivers images with their channels last, whatever Keras's configuration file says.
    keras.config.set_image_data_format("channels_last")
    keras.utils.set_random_seed(runtime.seed)
    if runtime.deterministic:
        _DETERMINISM[keras.backend.backend()]()


def _prepare_determinism() -> None:
    flags = os.environ.get("XLA_FLAGS", "")
    if DETERMINISTIC_XLA not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {DETERMINISTIC_XLA}".strip()
    os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")


def _make_tensorflow_deterministic() -> None:
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()


def _make_jax_deterministic() -> None:
    import jax

    # On CPUs it is so in any case.
    if DETERMINISTIC_XLA not in os.environ.get("XLA_FLAGS", "") and jax.default_backend() != "cpu":
        raise _too_late(f"XLA_FLAGS={DETERMINISTIC_XLA}")


def _make_torch_deterministic() -> None:
    import torch

    if CUBLAS_WORKSPACE not in os.environ and torch.cuda.is_initialized():
        raise _too_late(f"{CUBLAS_WORKSPACE}=:4096:8")
    os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(True)


_DETERMINISM = {
    "tensorflow": _make_tensorflow_deterministic,
    "jax": _make_jax_deterministic,
    "torch": _make_torch_deterministic,
}


def _too_late(variable: str) -> UserError:
    return UserError(
        f"runtime.deterministic needs the environment variable {variable} before the GPU is first "
        f"used, and it has been used already. Set it before Python starts, or train from the "
        f"command line, which sets it."
    )


def describe() -> dict[str, object]:
    """Returns what a result depends on besides its recipe: versions, backend and machine."""
    import keras

    return {"backend": keras.backend.backend(), **describe_python(PACKAGES)}


def describe_python(packages: Iterable[str]) -> dict[str, object]:
    """Returns the versions of Python and of packages, and what they run on."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "packages": {name: _version(name) for name in packages},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
