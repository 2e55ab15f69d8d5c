"""Exports trained models to SavedModel, ONNX and OpenVINO."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_convnext.data.bad_images import check_on_bad_image
from keras_convnext.data.preprocessor import Preprocessor
from keras_convnext.data.read_errors import as_data_error
from keras_convnext.data.sources.load import Split, check_split_has_data, load_split
from keras_convnext.errors import UserError
from keras_convnext.files import expanded
from keras_convnext.runtime import check_installed
from keras_convnext.serving import onnx_model, openvino_model
from keras_convnext.serving.onnx_model import write_onnx
from keras_convnext.serving.openvino_model import write_openvino
from keras_convnext.serving.quantization import check_quantizable
from keras_convnext.serving.saved_model import write_saved_model
from keras_convnext.tasks.base import Servable
from keras_convnext.tasks.classification.predictor import Predictor
from keras_convnext.tasks.source import RunSource, Source, check_checkpoint, resolve

PRECISIONS = ("float32", "int8")
# The default of NNCF.
CALIBRATION_IMAGES = 300


@dataclass(frozen=True)
class Format:
    """A format to export to.

    Attributes:
        write: Takes a predictor, a path and, where `has_int8`, calibration images.
        default: The name in a run's directory; any other path must have its suffix.
        packages: The packages that it needs, by their import names.
        extra: The extra of this package that installs them.
        has_int8: Whether it supports 8-bit integers.
    """

    write: Callable[..., None]
    default: str
    packages: tuple[str, ...]
    extra: str
    has_int8: bool = True


FORMATS = {
    "saved_model": Format(
        write_saved_model, "saved_model", ("tensorflow",), "tensorflow", has_int8=False
    ),
    "onnx": Format(write_onnx, "model.onnx", onnx_model.PACKAGES, "onnx"),
    "openvino": Format(write_openvino, "model.xml", openvino_model.PACKAGES, "openvino"),
}


def export(
    source: str | Path | keras.Model | Servable,
    path: str | Path | None = None,
    format: str = "saved_model",
    checkpoint: str = "last",
    precision: str = "float32",
    data: str | Path | None = None,
    split: str | None = None,
    on_bad_image: str | None = None,
) -> Path:
    """Exports a run, a published checkpoint or a model for serving.

    Args:
        source: Directory of a run, name of a published checkpoint, a `.keras` file, or a functional
            classifier of fixed image size; or a `Predictor`, which adds the names of the classes
            and, for a model of any size, the image size: `Predictor.of_model(model, class_names,
            image_size)`.
        path: The file or directory to write. Defaults to `saved_model`, `model.onnx` or
            `model.xml` in a run's directory; required for any other source.
        format: `"saved_model"`, for TensorFlow Serving; `"onnx"`, one file for ONNX Runtime; or
            `"openvino"`, an `.xml` file with a `.bin` beside it. The modules of
            `keras_convnext.serving` document their inputs and outputs. Defaults to
            `"saved_model"`.
        checkpoint: Of a run, `"last"`, `"best"` or `"best_ema"`; see `Predictor.load`.
        precision: The precision of ONNX and OpenVINO: `"float32"`, or `"int8"`, which is faster and
            slightly less accurate. Defaults to `"float32"`. (OpenVINO chooses bfloat16 itself on
            CPUs that support it.)
        data: For `"int8"`, representative images, of which 300 determine the integer ranges: a
            folder with one folder of images a class, or `tfds:NAME`. Defaults to a run's
            own training images.
        split: The part of a `tfds:` data set, such as `"train"`.
        on_bad_image: `"error"` or `"skip"`, for files among `data` that are not images.
            Defaults to the recipe's choice for a run's own images, and to `"error"` for `data`.

    Returns:
        The path that was written.

    Raises:
        UserError: If the run, model or data does not exist, the path exists already or cannot be
            written, or a package is missing; or if the number or the classes of a run's own images
            have changed since training. An export gets its name only once it is complete.

    Example:
        >>> keras_convnext.export("runs/digits", "served/digits/1")
        >>> keras_convnext.export("runs/digits", "digits.xml", "openvino", precision="int8")
        >>> keras_convnext.export(Predictor.of_model(model, ("cat", "dog")), "pets.onnx", "onnx")
    """
    check_split_has_data(data, split)
    check_on_bad_image(on_bad_image)
    check_checkpoint(checkpoint)
    chosen = _format(format, precision, data)
    check_installed(
        {name: f"{name}, which {format} needs," for name in chosen.packages}, chosen.extra
    )
    if precision == "int8":
        check_quantizable()
    found = None if isinstance(source, keras.Model) else source
    if isinstance(found, str | Path):
        found = resolve(found)
    place = _place(chosen, found, path)
    # Everything else is checked before the model, which may have to be downloaded.
    images = _calibration_split(found, data, split, on_bad_image) if precision == "int8" else None
    predictor = _predictor(source, found, checkpoint)
    if images is None:
        chosen.write(predictor, place)
    else:
        chosen.write(predictor, place, _calibration_images(images, predictor.preprocessor))
    return place


def _predictor(source: Any, found: Any, checkpoint: str) -> Servable:
    if isinstance(source, keras.Model):
        return Predictor.of_model(source)
    return found.predictor(checkpoint) if isinstance(found, Source) else found


def _format(name: str, precision: str, data: str | Path | None) -> Format:
    if name not in FORMATS:
        raise UserError(f"`format` must be one of {', '.join(FORMATS)}. Received: {name!r}.")
    if precision not in PRECISIONS:
        raise UserError(
            f"`precision` must be one of {', '.join(PRECISIONS)}. Received: {precision!r}."
        )
    if precision == "int8" and not FORMATS[name].has_int8:
        able = " or ".join(other for other, format in FORMATS.items() if format.has_int8)
        raise UserError(f"A {name} is written in float32 only; for int8 take {able} as `format`.")
    if data is not None and precision != "int8":
        raise UserError(
            "`data` goes with `precision` int8, whose ranges are chosen by images. Leave it out, "
            "or choose int8."
        )
    return FORMATS[name]


def _place(format: Format, source: Any, path: str | Path | None) -> Path:
    default = Path(format.default)
    if path is None:
        if not isinstance(source, RunSource):
            kind = f"the {default.suffix} file" if default.suffix else "the directory"
            raise UserError(f"A model that belongs to no run needs `path`, {kind} to write.")
        return source.run.path / default
    path = expanded(path)
    if default.suffix and path.suffix != default.suffix:
        raise UserError(f"`path` must end in {default.suffix}. Received: {path}.")
    return path


def _calibration_split(
    source: Any, data: str | Path | None, split: str | None, on_bad_image: str | None
) -> Split:
    if data is not None:
        return load_split(data, split, on_bad_image or "error")
    if not isinstance(source, RunSource):
        raise UserError(
            "The ranges of int8 are chosen by images, and a model that belongs to no run has none. "
            "Pass `data` (--data on the command line), a folder with one folder of images a class."
        )
    return source.own_split("training", on_bad_image)


def _calibration_images(split: Split, preprocessor: Preprocessor) -> np.ndarray:
    """Returns images from all over a split, which may be in the order of its classes."""
    count = min(CALIBRATION_IMAGES, split.size)
    indices = np.linspace(0, split.size - 1, count).astype("int64")
    with as_data_error(split):
        return np.stack([preprocessor(split.pixels(index)) for index in indices])
