"""A whole run, from the recipe to the report; and what can be done with one afterwards.

The only place that knows the order of things: each step below is a function of its own elsewhere.
"""

import dataclasses
import json
from pathlib import Path

import keras

from keras_convnext import imagenet, runtime
from keras_convnext.console import console
from keras_convnext.data.pipeline import evaluation_dataset, training_dataset
from keras_convnext.data.sources import Split, load_split, load_splits
from keras_convnext.errors import DataError, UserError
from keras_convnext.evaluation.classification import Evaluation, evaluate_classifier
from keras_convnext.evaluation.report import write_report
from keras_convnext.recipe import Recipe, load_recipe
from keras_convnext.serving.predictor import Predictor
from keras_convnext.serving.saved_model import write_saved_model
from keras_convnext.training.model import build_model, compile_model, initialize
from keras_convnext.training.plan import Plan, make_plan
from keras_convnext.training.run_directory import RunDirectory
from keras_convnext.training.trainer import fit
from keras_convnext.weights.catalog import CHECKPOINTS

EXPORT_FORMATS = ("saved_model",)


def train(
    recipe: Recipe | str | Path,
    run_directory: str | Path | None = None,
    overwrite: bool = False,
) -> tuple[RunDirectory, Evaluation]:
    """Trains what a recipe describes, evaluates it and exports it.

    Args:
        recipe: The recipe, from `keras_convnext.load_recipe`, or its file.
        run_directory: Where everything goes. Defaults to `runs/` and the recipe's name.
        overwrite: Whether an earlier run in its place is removed.

    Returns:
        The run's directory and the evaluation of the last epoch's weights.

    Raises:
        UserError: If the recipe, its data or the directory cannot be used; nothing is written then.

    Example:
        >>> run, evaluation = keras_convnext.train("recipes/quickstart/digits.yaml")
        >>> evaluation.top(1)
        0.9944
    """
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    run = RunDirectory(run_directory or Path("runs") / recipe.name)
    run.refuse_taken(overwrite)
    runtime.configure(recipe.runtime)
    training, validation = load_splits(recipe.data)
    if validation is None:
        raise DataError("A run needs validation images; pass data.validation_split=NAME.")
    classes = len(training.class_names)
    plan = make_plan(recipe, training.size, validation.size, classes)
    model = build_model(recipe, classes)
    initialize(model, recipe.init)
    compile_model(model, recipe, plan)

    run.create(overwrite)
    _describe(run, recipe, plan, training.class_names)
    console.print(
        f"{plan.training_images:,} training and {plan.validation_images:,} validation images of "
        f"{classes} classes; {model.count_params():,} parameters; {plan.total_updates:,} updates "
        f"on {keras.backend.backend()}",
        soft_wrap=True,
    )
    data, augment = recipe.data, recipe.augment
    fit(
        model,
        training_dataset(
            training,
            data,
            augment,
            plan.epochs,
            recipe.runtime.seed,
            step_batch_size=recipe.step_batch_size,
        ),
        evaluation_dataset(
            validation,
            data.image_size,
            data.crop_fraction,
            label_smoothing=augment.smoothing_in_targets,
        ),
        recipe,
        plan,
        run,
    )

    predictor = Predictor.load(run.path)
    evaluation = _evaluate_split(predictor, validation)
    write_report(
        run.report, run.metrics(), evaluation, lambda index: validation.example(index)[0].numpy()
    )
    if recipe.export.saved_model:
        write_saved_model(predictor, run.saved_model)
    return run, evaluation


def evaluate(
    source: str | Path,
    data: str | Path | None = None,
    checkpoint: str = "last",
    on_bad_image: str = "error",
    split: str | None = None,
) -> Evaluation:
    """Evaluates a run, a published checkpoint or a model.

    Args:
        source: Directory of a run, name of a published checkpoint, or a `.keras` file.
        data: Folder with one folder of images a class, or `tfds:NAME`, a data set that TensorFlow
            Datasets has prepared. Defaults to a run's own validation images. For a published
            checkpoint the classes are called by synset ids, such as `n01440764`, as in ImageNet;
            they need not be all of them.
        checkpoint: Of a run, `"last"`, `"best"` or `"best_ema"`; see `Predictor.load`.
        on_bad_image: `"error"` or `"skip"`, for files in the folder that are no images.
        split: Which part of a `tfds:` data set, such as `"test"`.

    Raises:
        UserError: If there is no such run, model or data, or they do not go together.

    Example:
        >>> keras_convnext.evaluate("runs/digits").top(1)
        0.9944
    """
    predictor = Predictor.load(source, checkpoint)
    if data is None:
        if split is not None:
            raise UserError("`split` goes with `data`, as tfds:NAME; give both or neither.")
        if not RunDirectory.is_run(source):
            raise UserError(
                f"{source} belongs to no run, so it has no validation images of its own. Pass "
                f"`data` (--data on the command line), a folder with one folder of images a class."
            )
        validation = load_splits(RunDirectory.open(source).recipe().data)[1]
        if validation is None:
            raise UserError(
                f"{source} was trained without validation images. Pass `data` (--data on the "
                f"command line), a folder with one folder of images a class."
            )
        return _evaluate_split(predictor, validation)
    if RunDirectory.is_run(source):
        known = predictor.class_names
        return _evaluate_split(predictor, load_split(data, split, on_bad_image, known))
    if str(source) in CHECKPOINTS:
        synsets = imagenet.synsets(len(predictor.class_names))
        return _evaluate_split(predictor, load_split(data, split, on_bad_image, synsets))
    images = load_split(data, split, on_bad_image)
    if len(images.class_names) != len(predictor.class_names):
        raise DataError(
            f"{source} tells {len(predictor.class_names)} classes apart, but {data} holds "
            f"{len(images.class_names)}. There must be as many, in the same order: of folders, the "
            f"alphabetical order of their names."
        )
    return _evaluate_split(dataclasses.replace(predictor, class_names=images.class_names), images)


def export(
    source: str | Path | keras.Model,
    path: str | Path | None = None,
    format: str = "saved_model",
    checkpoint: str = "last",
) -> Path:
    """Writes a run, a published checkpoint or a model in a form that can be served.

    Args:
        source: Directory of a run, name of a published checkpoint, a `.keras` file, or a functional
            classifier of fixed image size.
        path: Where to. Defaults to a run's own `saved_model/`; required for anything else.
        format: `"saved_model"`, for TensorFlow Serving; what it takes and gives stands in
            `keras_convnext.serving.saved_model`.
        checkpoint: Of a run, `"last"`, `"best"` or `"best_ema"`; see `Predictor.load`.

    Returns:
        Where it was written.

    Raises:
        UserError: If there is no such run or model, or the place is taken.

    Example:
        >>> keras_convnext.export("runs/digits", "served/digits/1")
    """
    if format not in EXPORT_FORMATS:
        raise UserError(
            f"`format` must be one of {', '.join(EXPORT_FORMATS)}. Received: {format!r}."
        )
    if isinstance(source, keras.Model):
        predictor = Predictor.of_model(source)
    else:
        predictor = Predictor.load(source, checkpoint)
        if path is None and RunDirectory.is_run(source):
            path = RunDirectory.open(source).saved_model
    if path is None:
        raise UserError("A model that belongs to no run needs `path`, the directory to write.")
    write_saved_model(predictor, path)
    return Path(path)


def _describe(run: RunDirectory, recipe: Recipe, plan: Plan, class_names: tuple[str, ...]) -> None:
    """Writes what the run is before it starts: with it, a run can be judged and made again."""
    run.recipe_file.write_text(recipe.to_yaml(), encoding="utf-8")
    plan.write(run.plan_file)
    run.classes_file.write_text(json.dumps(class_names, ensure_ascii=False), encoding="utf-8")
    run.environment_file.write_text(json.dumps(runtime.describe(), indent=2) + "\n")


def _evaluate_split(predictor: Predictor, split: Split) -> Evaluation:
    preprocessor = predictor.preprocessor
    dataset = evaluation_dataset(split, preprocessor.image_size, preprocessor.crop_fraction)
    return evaluate_classifier(predictor.classifier, dataset, split.class_names)
