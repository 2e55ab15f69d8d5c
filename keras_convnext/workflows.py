"""A whole run, from the recipe to the report; and what can be done with one afterwards.

The only place that knows the order of things: each step below is a function of its own elsewhere.
"""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_convnext import files, runtime
from keras_convnext.catalog import imagenet
from keras_convnext.catalog.checkpoints import CHECKPOINTS
from keras_convnext.console import console
from keras_convnext.data.class_weights import (
    balanced_weights,
    weights_in_words,
    with_image_weights,
)
from keras_convnext.data.pipeline import evaluation_dataset, training_dataset
from keras_convnext.data.read_errors import unreadable_named
from keras_convnext.data.sources.load import Split, load_split, load_splits, refuse_split_alone
from keras_convnext.errors import DataError, RunError, UserError
from keras_convnext.evaluation.classification import Evaluation, evaluate_classifier
from keras_convnext.evaluation.report import write_report
from keras_convnext.recipe import Init, Recipe, load_recipe
from keras_convnext.runs import resume
from keras_convnext.runs.directory import RunDirectory
from keras_convnext.runs.early_stopping import is_over
from keras_convnext.runs.packages import refuse_missing_packages
from keras_convnext.runs.paths import with_absolute_paths
from keras_convnext.runs.plan import Plan, make_plan
from keras_convnext.serving.export import FORMATS, own_split, refuse_other_choice
from keras_convnext.serving.predictor import Predictor
from keras_convnext.serving.saved_model import write_saved_model
from keras_convnext.training.model import build_model, compile_model, initialize
from keras_convnext.training.trainer import fit, restore

GOES_ON = (
    " Started again with the same command, the run then goes on after its last whole epoch. To "
    "leave the image out, begin anew with --overwrite: remove it, or pass data.on_bad_image=skip "
    "and data.check_images=true."
)


def train(
    recipe: Recipe | str | Path,
    run_directory: str | Path | None = None,
    overwrite: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[RunDirectory, Evaluation | None]:
    """Trains what a recipe describes, evaluates it and exports it.

    A run that was stopped, at whatever moment, is gone on with after its last whole epoch, and ends
    as if it had never been stopped. A finished run is given more epochs by the same recipe with a
    greater `schedule.epochs`, where `schedule.name` is `step`; or by one whose
    `schedule.early_stopping` ends it later.

    Args:
        recipe: The recipe, from `keras_convnext.load_recipe`; or its file; or the name of a recipe
            that comes with the package, such as `"quickstart/digits"`.
        run_directory: Where everything goes. Defaults to `runs/` and the recipe's name.
        overwrite: Whether an earlier run in its place is removed, finished or not. Defaults to
            `False`.
        callbacks: Keras callbacks to run beside those of the recipe. They see all metrics of an
            epoch, and what they add to its logs, or change in the model, is kept with it. Their own
            state is not: when a run is gone on with, they begin anew, with the epochs to come. A
            run that one of them ends is finished. Defaults to none.

    Returns:
        The run's directory and the evaluation of the last epoch's weights, which is `None` where
        the recipe has no validation images.

    Raises:
        UserError: If the recipe, its data or the directory cannot be used, and nothing is written
            then; or if training cannot go on, and the newest checkpoint is whole then.

    Example:
        >>> run, evaluation = keras_convnext.train("quickstart/digits")
        >>> evaluation.top(1)
        0.9944
    """
    _refuse_other_objects(callbacks)
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    init, recipe = recipe.init, with_absolute_paths(recipe)
    refuse_missing_packages(recipe)
    run = RunDirectory(run_directory or Path("runs") / recipe.name)
    _refuse_taken(run, recipe, overwrite)
    if run.is_run(run.path) and not overwrite:
        resume.refuse_other_recipe(run, recipe)
    with runtime.configured(recipe.runtime):
        return _train(recipe, init, run, overwrite, callbacks)


def _refuse_other_objects(callbacks: Sequence[keras.callbacks.Callback]) -> None:
    if isinstance(callbacks, list | tuple) and all(
        isinstance(one, keras.callbacks.Callback) for one in callbacks
    ):
        return
    raise UserError(
        f"`callbacks` must be a list of objects of keras.callbacks.Callback. Received: "
        f"{callbacks!r}."
    )


def _refuse_taken(run: RunDirectory, recipe: Recipe, overwrite: bool) -> None:
    run.refuse_taken(overwrite or resume.asks_for_more(run, recipe))


def _train(
    recipe: Recipe,
    init: Init,
    run: RunDirectory,
    overwrite: bool,
    callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[RunDirectory, Evaluation | None]:
    training, validation = load_splits(recipe.data)
    classes = len(training.class_names)
    validation_images = 0 if validation is None else validation.size
    plan = make_plan(recipe, training.size, validation_images, classes)
    model = build_model(recipe, classes)
    compile_model(model, recipe, plan)

    with run.locked():
        # Again, since another process may have been here meanwhile.
        _refuse_taken(run, recipe, overwrite)
        goes_on = run.is_run(run.path) and not overwrite
        done = _go_on(run, recipe, plan, training.class_names, model) if goes_on else 0
        if not done:
            initialize(model, init)
        if not goes_on:
            run.create(recipe, overwrite)
        _describe(run, plan, training.class_names, done)
        console.print(
            f"{plan.training_images:,} training and {plan.validation_images:,} validation images "
            f"of {classes} classes; {model.count_params():,} parameters; {plan.total_updates:,} "
            f"updates on {keras.backend.backend()}",
            soft_wrap=True,
        )
        if done < plan.epochs and not is_over(recipe.schedule.early_stopping, run.metrics()):
            with unreadable_named(training, validation, advice=GOES_ON):
                fit(
                    model,
                    _training_batches(training, recipe, plan, done),
                    _validation_batches(validation, recipe),
                    recipe,
                    plan,
                    run,
                    done,
                    callbacks,
                )
        return run, _finish(run, recipe, validation)


def _go_on(
    run: RunDirectory,
    recipe: Recipe,
    plan: Plan,
    class_names: tuple[str, ...],
    model: keras.Model,
) -> int:
    """Brings the model to where a run was stopped; returns the epochs that were done."""
    resume.refuse_other_recipe(run, recipe)
    if run.environment_file.exists():
        resume.refuse_other_backend(run, runtime.describe())
    resume.refuse_other_data(run, plan, class_names)
    done = restore(model, recipe, run)
    if run.is_finished():
        run.begin_again()
        _name_old_exports(run)
    if run.recipe() != recipe:
        run.write_recipe(recipe)
    notice = f"Going on with {run.path} after epoch {done} of {plan.epochs}"
    if not done:
        notice = f"Beginning {run.path} again: it was stopped before its first epoch had ended"
    console.print(notice, soft_wrap=True)
    return done


def _name_old_exports(run: RunDirectory) -> None:
    places = [run.path / form.default for form in FORMATS.values()]
    old = [str(path) for path in places if path.exists() and path != run.saved_model]
    if old:
        console.print(
            f"Exported before and not made again: {', '.join(old)}", style="yellow", soft_wrap=True
        )


def _training_batches(split: Split, recipe: Recipe, plan: Plan, done: int):
    """Returns the batches of the epochs that are not done."""
    batches = training_dataset(
        split,
        recipe.data,
        recipe.augment,
        plan.epochs,
        recipe.runtime.seed,
        start=done * plan.steps_per_epoch,
        step_batch_size=recipe.step_batch_size,
        preprocessing=recipe.preprocessing,
    )
    if recipe.data.class_weights is None:
        return batches
    weights = balanced_weights(split)
    console.print(f"Class weights: {weights_in_words(weights, split.class_names)}", soft_wrap=True)
    return with_image_weights(batches, weights, recipe.augment.smoothing_in_targets)


def _validation_batches(split: Split | None, recipe: Recipe):
    if split is None:
        return None
    return evaluation_dataset(
        split,
        recipe.data.image_size,
        recipe.data.crop_fraction,
        label_smoothing=recipe.augment.smoothing_in_targets,
        interpolation=recipe.preprocessing.interpolation,
        warp_from=recipe.preprocessing.warp_from,
    )


def _finish(run: RunDirectory, recipe: Recipe, validation: Split | None) -> Evaluation | None:
    """Evaluates, reports and exports a trained run; only then it is finished."""
    predictor = Predictor.load(run.path)
    evaluation = None if validation is None else _evaluate_split(predictor, validation)
    try:
        for unfinished in (run.report, run.saved_model):
            if unfinished.exists():
                shutil.rmtree(unfinished)
        with unreadable_named(validation, advice=GOES_ON):
            write_report(run.report, run.metrics(), evaluation, _pictures(validation))
        if recipe.export.saved_model:
            write_saved_model(predictor, run.saved_model)
        run.finish(None if evaluation is None else evaluation.summary())
    except OSError as error:
        raise RunError(
            f"{error.filename or run.path} cannot be written: {error.strerror or error}. Training "
            f"itself is done. Free some space and start again with the same command."
        ) from error
    return evaluation


def _pictures(split: Split | None):
    """Returns what gives an image of a split by its number."""
    return None if split is None else lambda index: split.example(index)[0].numpy()


def evaluate(
    source: str | Path,
    data: str | Path | None = None,
    checkpoint: str = "last",
    on_bad_image: str | None = None,
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
        on_bad_image: `"error"` or `"skip"`, for files in a folder that are no images. Defaults to
            the recipe's choice for a run's own images, and to `"error"` for `data`.
        split: Which part of a `tfds:` data set, such as `"test"`.

    Raises:
        UserError: If there is no such run, model or data, or they do not go together; or if a run's
            own images are no longer as many, or of the classes, that they were in training.

    Example:
        >>> keras_convnext.evaluate("runs/digits").top(1)
        0.9944
    """
    refuse_split_alone(data, split)
    refuse_other_choice(on_bad_image)
    predictor = Predictor.load(source, checkpoint)
    if data is None:
        if not RunDirectory.is_run(source):
            raise UserError(
                f"{source} belongs to no run, so it has no validation images of its own. Pass "
                f"`data` (--data on the command line), a folder with one folder of images a class."
            )
        run = RunDirectory.open(source)
        if run.recipe().data.validation_split is None:
            raise UserError(
                f"The run in {source} has no validation images: its recipe's data.validation_split "
                f"is null. Pass `data` (--data on the command line), a folder with one folder of "
                f"images a class."
            )
        return _evaluate_split(predictor, own_split(run, "validation", on_bad_image))
    on_bad_image = on_bad_image or "error"
    turns = predictor.preprocessor.apply_orientation
    if RunDirectory.is_run(source):
        known = predictor.class_names
        return _evaluate_split(predictor, load_split(data, split, on_bad_image, known, turns))
    if str(source) in CHECKPOINTS:
        synsets = imagenet.synsets(len(predictor.class_names))
        # The published accuracies were measured without turning images.
        images = load_split(data, split, on_bad_image, synsets, apply_orientation=False)
        return _evaluate_split(predictor, images)
    images = load_split(data, split, on_bad_image, apply_orientation=turns)
    if len(images.class_names) != len(predictor.class_names):
        raise DataError(
            f"{source} tells {len(predictor.class_names)} classes apart, but {data} holds "
            f"{len(images.class_names)}. There must be as many, in the same order: of folders, the "
            f"alphabetical order of their names."
        )
    return _evaluate_split(dataclasses.replace(predictor, class_names=images.class_names), images)


def _describe(run: RunDirectory, plan: Plan, class_names: tuple[str, ...], done: int) -> None:
    """Writes what the run is before it trains: with it, a run can be judged and made again."""
    plan.write(run.plan_file)
    files.write_text(run.classes_file, json.dumps(class_names, ensure_ascii=False))
    if not done:
        files.write_text(run.environment_file, json.dumps(runtime.describe(), indent=2) + "\n")


def _evaluate_split(predictor: Predictor, split: Split) -> Evaluation:
    preprocessor = predictor.preprocessor
    dataset = evaluation_dataset(
        split,
        preprocessor.image_size,
        preprocessor.crop_fraction,
        channels=preprocessor.channels,
        interpolation=preprocessor.interpolation,
        warp_from=preprocessor.warp_from,
    )
    with unreadable_named(split):
        return evaluate_classifier(predictor.classifier, dataset, split.class_names)
