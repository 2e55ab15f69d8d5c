"""A classifier in a form that others can run: which forms there are, and where they go."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_convnext.data.sources.load import Split, load_split, load_splits, refuse_split_alone
from keras_convnext.errors import UserError
from keras_convnext.files import expanded
from keras_convnext.runs.data_check import refuse_other_images
from keras_convnext.runs.directory import RunDirectory
from keras_convnext.runtime import refuse_missing
from keras_convnext.serving import onnx_model, openvino_model
from keras_convnext.serving.onnx_model import write_onnx
from keras_convnext.serving.openvino_model import write_openvino
from keras_convnext.serving.predictor import Predictor
from keras_convnext.serving.quantization import check_quantizable
from keras_convnext.serving.saved_model import write_saved_model

PRECISIONS = ("float32", "int8")
# As many as NNCF looks at if not told otherwise.
CALIBRATION_IMAGES = 300


@dataclass(frozen=True)
class Format:
    """A form to export to: its writer, and its place in a run's directory.

    Attributes:
        write: Takes a predictor, a path and, where `has_int8`, calibration images.
        default: The name in a run's directory; another place must have its suffix.
        packages: What must be installed, by the names they are imported under.
        extra: The extra of this package that brings them.
        has_int8: Whether it can be had in 8-bit integers.
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
    source: str | Path | keras.Model | Predictor,
    path: str | Path | None = None,
    format: str = "saved_model",
    checkpoint: str = "last",
    precision: str = "float32",
    data: str | Path | None = None,
    split: str | None = None,
    on_bad_image: str | None = None,
) -> Path:
    """Writes a run, a published checkpoint or a model in a form that can be served.

    Args:
        source: Directory of a run, name of a published checkpoint, a `.keras` file, or a functional
            classifier of fixed image size; or a `Predictor`, which brings the names of its classes
            and, for a model of any size, the image size: `Predictor.of_model(model, class_names,
            image_size)`.
        path: Where to. Defaults to `saved_model`, `model.onnx` or `model.xml` in a run's directory;
            required for anything else.
        format: `"saved_model"`, for TensorFlow Serving; `"onnx"`, one file for ONNX Runtime; or
            `"openvino"`, an `.xml` file with a `.bin` beside it. What each takes and gives stands
            in the modules of `keras_convnext.serving`.
        checkpoint: Of a run, `"last"`, `"best"` or `"best_ema"`; see `Predictor.load`.
        precision: What ONNX and OpenVINO compute in: `"float32"`, or `"int8"`, faster, and a little
            less exact. (bfloat16 is OpenVINO's own choice on CPUs that have it.)
        data: For `"int8"`, images like those to come, of which some 300 choose the integers'
            ranges: a folder with one folder of images a class, or `tfds:NAME`. Defaults to a run's
            own training images.
        split: Which part of a `tfds:` data set, such as `"train"`.
        on_bad_image: `"error"` or `"skip"`, for files among these images that are no images.
            Defaults to the recipe's choice for a run's own images, and to `"error"` for `data`.

    Returns:
        Where it was written.

    Raises:
        UserError: If there is no such run, model or data, the place is taken or cannot be written,
            or a package is missing; or if a run's own images are no longer as many, or of the
            classes, that they were in training. An export has its name only once it is complete.

    Example:
        >>> keras_convnext.export("runs/digits", "served/digits/1")
        >>> keras_convnext.export("runs/digits", "digits.xml", "openvino", precision="int8")
        >>> keras_convnext.export(Predictor.of_model(model, ("cat", "dog")), "pets.onnx", "onnx")
    """
    refuse_split_alone(data, split)
    refuse_other_choice(on_bad_image)
    chosen = _format(format, precision, data)
    refuse_missing(
        {name: f"{name}, which {format} needs," for name in chosen.packages}, chosen.extra
    )
    if precision == "int8":
        check_quantizable()
    run = _run_of(source)
    place = _place(chosen, run, path)
    # Before the model, which may have to be fetched, all else that can be refused.
    images = _calibration_split(run, data, split, on_bad_image) if precision == "int8" else None
    predictor = _predictor(source, checkpoint)
    if images is None:
        chosen.write(predictor, place)
    else:
        chosen.write(predictor, place, _prepared(images, predictor))
    return place


def _predictor(source: str | Path | keras.Model | Predictor, checkpoint: str) -> Predictor:
    if isinstance(source, Predictor):
        return source
    if isinstance(source, keras.Model):
        return Predictor.of_model(source)
    return Predictor.load(source, checkpoint)


def _run_of(source: str | Path | keras.Model | Predictor) -> RunDirectory | None:
    if isinstance(source, keras.Model | Predictor) or not RunDirectory.is_run(source):
        return None
    return RunDirectory.open(source)


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


def _place(format: Format, run: RunDirectory | None, path: str | Path | None) -> Path:
    default = Path(format.default)
    if path is None:
        if run is None:
            kind = f"the {default.suffix} file" if default.suffix else "the directory"
            raise UserError(f"A model that belongs to no run needs `path`, {kind} to write.")
        return run.path / default
    path = expanded(path)
    if default.suffix and path.suffix != default.suffix:
        raise UserError(f"`path` must end in {default.suffix}. Received: {path}.")
    return path


def _calibration_split(
    run: RunDirectory | None,
    data: str | Path | None,
    split: str | None,
    on_bad_image: str | None,
) -> Split:
    if data is not None:
        return load_split(data, split, on_bad_image or "error")
    if run is None:
        raise UserError(
            "The ranges of int8 are chosen by images, and a model that belongs to no run has none. "
            "Pass `data` (--data on the command line), a folder with one folder of images a class."
        )
    return own_split(run, "training", on_bad_image)


def own_split(run: RunDirectory, part: str, on_bad_image: str | None = None) -> Split:
    """Returns images that a run was trained or evaluated with.

    Args:
        run: The run.
        part: `"training"`, or `"validation"` if the run has validation images.
        on_bad_image: `"error"` or `"skip"`. Defaults to `None`, the recipe's choice.

    Raises:
        DataError: If they are no longer as many, or of the classes, that they were in training.
    """
    data = run.recipe().data
    if on_bad_image is not None:
        data = data.model_copy(update={"on_bad_image": on_bad_image})
    training, validation = load_splits(data)
    split = training if validation is None or part == "training" else validation
    left_out = len(getattr(split, "left_out", ()))
    refuse_other_images(run, part, split.size, left_out, training.class_names)
    return split


def refuse_other_choice(on_bad_image: str | None) -> None:
    """Raises a `UserError` if there is no such thing to do about a file that is no image."""
    if on_bad_image not in (None, "error", "skip"):
        raise UserError(
            f"`on_bad_image` (--on-bad-image) must be one of error, skip. Received: "
            f"{on_bad_image!r}."
        )


def _prepared(split: Split, predictor: Predictor) -> np.ndarray:
    """Returns images from all over a split, which may be in the order of its classes."""
    count = min(CALIBRATION_IMAGES, split.size)
    indices = np.linspace(0, split.size - 1, count).astype("int64")
    images = (split.example(index)[0].numpy() for index in indices)
    return np.stack([predictor.preprocessor(image) for image in images])
