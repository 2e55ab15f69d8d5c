"""Backend, precision, seed and determinism of a run.

The backend must be chosen before Keras is imported, so this module imports none.
"""

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

# XLA and cuBLAS read these on their first use, so they are set before the backend is imported.
DETERMINISTIC_XLA = "--xla_gpu_deterministic_ops=true"
CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
BACKENDS = ("tensorflow", "jax", "torch")
PACKAGES = ("keras", "tensorflow", "jax", "torch", "keras-cv", "numpy", "keras-convnext")


def choose_backend(name: str | None) -> None:
    """Selects Keras's backend, and checks that it is installed.

    Args:
        name: `"tensorflow"`, `"jax"` or `"torch"`; `None` takes the environment variable
            KERAS_BACKEND or Keras's configuration file.

    Raises:
        UserError: If Keras was imported with another backend, or KERAS_BACKEND names another.
        MissingPackage: If the backend is not installed.
    """
    if "keras" in sys.modules:
        import keras

        settled, by = keras.backend.backend(), "Keras was imported with"
    else:
        settled, by = os.environ.get("KERAS_BACKEND"), "the environment variable KERAS_BACKEND is"
    if name is not None and settled not in (None, name):
        raise UserError(
            f"The backend should be {name!r}, but {by} {settled!r}. Change one of the two, or "
            f"remove runtime.backend from the recipe."
        )
    chosen = name or settled
    if chosen is not None:
        if chosen not in BACKENDS:
            raise UserError(f"{by} {chosen!r}; it must be one of {', '.join(BACKENDS)}.")
        if not importlib.util.find_spec(chosen):
            raise MissingPackage(f"The backend {chosen!r}", chosen)
        os.environ["KERAS_BACKEND"] = chosen
    # Otherwise PyTorch's idle threads spin and take processor time from tf.data.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def default_backend() -> str:
    """Returns the backend from KERAS_BACKEND or, if it is not set, from Keras's configuration."""
    if "KERAS_BACKEND" in os.environ:
        return os.environ["KERAS_BACKEND"]
    import keras

    return keras.backend.backend()


def start_quietly(backend: str | None = None, deterministic: bool = False) -> None:
    """Imports Keras with a backend, and TensorFlow if installed, without their start-up messages.

    For the command line. TensorFlow has no setting that silences the messages of its import, so the
    error stream is captured and printed only if an import fails.

    Args:
        backend: As in `choose_backend`. Defaults to `None`.
        deterministic: Whether to prepare deterministic kernels, which some backends need before
            they are imported. Defaults to `False`.

    Raises:
        UserError: If the backend cannot be used; see `choose_backend`.
        MissingPackage: If Keras's configured backend is not installed.
    """
    choose_backend(backend)
    if deterministic:
        _prepare_determinism()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _captured_stderr():
            importlib.import_module("keras")  # first: torch must be imported before TensorFlow
            # Searching for GPUs prints messages too; otherwise on the first use.
            if has_tensorflow():
                importlib.import_module("tensorflow").config.list_physical_devices()
    except ModuleNotFoundError as error:
        raise MissingPackage(f"{error.name!r}, which is needed here,", "train") from error


@contextlib.contextmanager
def _captured_stderr():
    """Captures the error stream, of native code too, and prints it only if the block fails."""
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


def has_tensorflow() -> bool:
    """Returns whether TensorFlow is installed; training needs it on every backend."""
    return importlib.util.find_spec("tensorflow") is not None


def check_installed(packages: Mapping[str, str], extra: str) -> None:
    """Raises a `MissingPackage` that lists all packages that are not installed.

    Args:
        packages: Name and purpose of each package for the message, by the name of its import.
        extra: The extra of keras-convnext that installs them.

    Example:
        >>> check_installed({"sklearn": "scikit-learn, which holds the digits,"}, "train")
    """
    missing = [words for name, words in packages.items() if not importlib.util.find_spec(name)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise MissingPackage(" and ".join(missing), extra, verb)


@contextlib.contextmanager
def configured(runtime: Runtime) -> Iterator[None]:
    """Configures Keras for a run, and restores the earlier configuration afterwards.

    It restores the dtype policy, the data format, PyTorch's choice of deterministic algorithms, and
    the random states of Python and NumPy, which the calling program may use. It cannot restore
    TensorFlow's determinism and the random states of Keras and the backends.

    Args:
        runtime: The section `runtime` of a recipe.

    Raises:
        UserError: As `configure` does.
    """
    choose_backend(runtime.backend)
    import keras

    policy, data_format = keras.config.dtype_policy(), keras.config.image_data_format()
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with _restored_torch_determinism():
        try:
            configure(runtime)
            yield
        finally:
            keras.config.set_dtype_policy(policy)
            keras.config.set_image_data_format(data_format)
            random.setstate(python_state)
            np.random.set_state(numpy_state)


@contextlib.contextmanager
def _restored_torch_determinism():
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
    """Configures Keras for a run: backend, precision, data format, seed and determinism.

    Args:
        runtime: The section `runtime` of a recipe.

    Raises:
        UserError: If the backend cannot be used, see `choose_backend`; or if it is too late to make
            it deterministic.
    """
    choose_backend(runtime.backend)
    import keras

    keras.config.set_dtype_policy(runtime.precision)
    # tf.data yields channels-last images, whatever Keras's configuration file says.
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

    # CPUs are deterministic without the flag.
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
        f"runtime.deterministic needs the environment variable {variable} before the first use of "
        f"the GPU, which has been used already. Set it before Python starts, or train from the "
        f"command line, which sets it."
    )


def describe() -> dict[str, object]:
    """Returns the backend, the versions and the machine, on which results depend as well."""
    import keras

    return {"backend": keras.backend.backend(), **describe_python(PACKAGES)}


def describe_python(packages: Iterable[str]) -> dict[str, object]:
    """Returns the versions of Python and of packages, and the machine."""
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
