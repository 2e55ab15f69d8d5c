"""A whole run, from the recipe to the report, and the evaluation of a trained model.

This module knows the order of the steps. Each step is a function elsewhere, and all that depends on
the kind of training is asked of the task.
"""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_convnext import files, runtime
from keras_convnext.console import console, silence
from keras_convnext.data.bad_images import check_on_bad_image
from keras_convnext.data.read_errors import as_data_error
from keras_convnext.data.sources.load import Split, check_split_has_data
from keras_convnext.distribution.agreement import in_every_process, in_main_process
from keras_convnext.distribution.engine import Engine
from keras_convnext.distribution.start import started
from keras_convnext.distribution.watchdog import watched
from keras_convnext.errors import RunError, UserError
from keras_convnext.evaluation.classification import Evaluation
from keras_convnext.recipe import Init, Recipe, load_recipe
from keras_convnext.runs import resume
from keras_convnext.runs.directory import RunDirectory, RunState
from keras_convnext.runs.early_stopping import is_over
from keras_convnext.runs.packages import check_packages
from keras_convnext.runs.paths import with_absolute_paths
from keras_convnext.runs.plan import Plan, make_plan
from keras_convnext.runs.process_check import check_same_data, check_same_program
from keras_convnext.serving.export import FORMATS
from keras_convnext.serving.saved_model import write_saved_model
from keras_convnext.tasks.base import Task
from keras_convnext.tasks.registry import get_task
from keras_convnext.tasks.source import RunSource, check_checkpoint, resolve
from keras_convnext.training.model import initialize
from keras_convnext.training.trainer import fit, restore

RESUME_ADVICE = (
    " Started again with the same command, the run resumes after its last complete epoch. To omit "
    "the image, start over with --overwrite: remove it, or pass data.on_bad_image=skip and "
    "data.check_images=true."
)


def train(
    recipe: Recipe | str | Path,
    run_directory: str | Path | None = None,
    overwrite: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[RunDirectory, Evaluation | None]:
    """Trains the model that a recipe describes, evaluates it and exports it.

    A run that was stopped at any moment resumes after its last complete epoch, and ends as if it
    had never been stopped. A finished run is trained for more epochs by the same recipe with a
    greater `schedule.epochs`, where `schedule.name` is `step`, or with a
    `schedule.early_stopping` that ends it later.

    Args:
        recipe: The recipe, from `keras_convnext.load_recipe`; or its file; or the name of a recipe
            that comes with the package, such as `"quickstart/digits"`.
        run_directory: The directory of the run. Defaults to `runs/` and the recipe's name.
        overwrite: Whether an earlier run in that directory is removed, finished or not. Defaults to
            `False`.
        callbacks: Keras callbacks to run beside those of the recipe. They see all metrics of an
            epoch. Entries that they add to its logs, and changes to the model, are saved. Their own
            state is not: when a run resumes, they start anew. A run that one of them ends is
            finished. Defaults to none.

    Returns:
        The run's directory, and the evaluation of the weights of the last epoch, which is `None` if
        the recipe has no validation images. A task other than classification returns an evaluation
        of its own type.

    Raises:
        UserError: If the recipe, its data or the directory cannot be used, and nothing is written
            then; or if training cannot continue, and the newest checkpoint is complete then.

    Example:
        >>> run, evaluation = keras_convnext.train("quickstart/digits")
        >>> evaluation.top(1)
        0.9889
    """
    _check_callbacks(callbacks)
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    task = get_task(recipe.task)
    task.check(recipe)
    init, recipe = recipe.init, with_absolute_paths(recipe)
    check_packages(recipe)
    run = RunDirectory(run_directory or Path("runs") / recipe.name)
    runtime.choose_backend(recipe.runtime.backend)
    with (
        started(recipe.distribution) as engine,  # first: JAX cannot join processes once it is used
        runtime.configured(recipe.runtime),
        watched(engine),
    ):
        if not engine.is_main:
            silence()
        return _train(_Job(task, recipe, init, run, overwrite, callbacks, engine))


def _check_callbacks(callbacks: Sequence[keras.callbacks.Callback]) -> None:
    if isinstance(callbacks, list | tuple) and all(
        isinstance(one, keras.callbacks.Callback) for one in callbacks
    ):
        return
    raise UserError(
        f"`callbacks` must be a list of objects of keras.callbacks.Callback. Received: "
        f"{callbacks!r}."
    )


@dataclasses.dataclass(frozen=True)
class _Job:
    """What `train` was asked for.

    Attributes:
        task: The recipe's task.
        recipe: The recipe, with absolute paths.
        init: Its section `init`, as the user wrote it.
        run: The run's directory.
        overwrite: Whether an earlier run there is removed.
        callbacks: The user's callbacks.
        engine: The devices and processes.
    """

    task: Task
    recipe: Recipe
    init: Init
    run: RunDirectory
    overwrite: bool
    callbacks: Sequence[keras.callbacks.Callback]
    engine: Engine

    def resumes(self) -> bool:
        """Whether the run in the directory is resumed; the main process looks."""
        return in_main_process(
            self.engine, lambda: resume.should_resume(self.run, self.recipe, self.overwrite)
        )


def _train(job: _Job) -> tuple[RunDirectory, Evaluation | None]:
    engine, recipe = job.engine, job.recipe
    check_same_program(engine, recipe)
    job.resumes()  # fails early, before the data is read
    training, validation = in_every_process(engine, lambda: job.task.load_splits(recipe.data))
    check_same_data(engine, training, validation)
    plan = make_plan(
        recipe,
        training.size,
        0 if validation is None else validation.size,
        len(training.class_names),
        engine.devices,
        engine.data_shards,
    )
    with contextlib.ExitStack() as lock:
        in_main_process(engine, lambda: lock.enter_context(job.run.locked()))
        with engine.scope():
            _fit(job, plan, training, validation)
        return job.run, in_main_process(engine, lambda: _finish(job, validation))


def _fit(job: _Job, plan: Plan, training: Split, validation: Split | None) -> None:
    """Builds the model, and trains the epochs that are left."""
    task, recipe, engine = job.task, job.recipe, job.engine
    model = task.build_model(recipe, training)
    task.compile_model(model, recipe, plan)
    epoch = _begin_or_resume(job, plan, training, model)
    _announce(plan, model, engine)
    if in_main_process(engine, lambda: _is_trained(job.run, recipe, plan, epoch)):
        return
    engine.attach(model)
    with as_data_error(training, validation, advice=RESUME_ADVICE):
        fit(
            model,
            lambda *shard: task.training_batches(training, recipe, plan, epoch, *shard),
            None
            if validation is None
            else lambda *shard: task.validation_batches(validation, recipe, plan, *shard),
            recipe,
            plan,
            job.run,
            epoch,
            job.callbacks,
            task.monitor,
            engine,
        )


def _begin_or_resume(job: _Job, plan: Plan, training: Split, model: keras.Model) -> int:
    """Prepares the run's directory and the model; returns the number of epochs already trained."""

    def write() -> None:
        if not resumes:
            job.run.create(job.recipe, job.overwrite)
        _describe(job.run, plan, training.class_names, epoch)

    # Checked again under the lock, since another process may have trained here in the meantime.
    resumes = job.resumes()
    epoch = _resume(job, plan, training.class_names, model) if resumes else 0
    if not epoch:
        in_every_process(job.engine, lambda: initialize(model, job.init))
    in_main_process(job.engine, write)
    return epoch


def _resume(job: _Job, plan: Plan, class_names: tuple[str, ...], model: keras.Model) -> int:
    """Restores the model of a stopped run; returns the number of epochs already trained."""
    run, recipe = job.run, job.recipe

    def check() -> None:
        if run.environment_file.exists():
            resume.check_same_backend(run, runtime.describe())
        resume.check_same_data(run, plan, class_names)

    def reopen() -> None:
        if run.state() is RunState.FINISHED:
            run.reopen()
            _warn_of_old_exports(run)
        if run.recipe() != recipe:
            run.write_recipe(recipe)

    in_main_process(job.engine, check)
    epoch = restore(model, recipe, run, job.task.monitor, job.engine)
    in_main_process(job.engine, reopen)
    notice = f"Resuming {run.path} after epoch {epoch} of {plan.epochs}"
    if not epoch:
        notice = f"Starting {run.path} over: it was stopped before its first epoch had ended"
    console.print(notice, soft_wrap=True)
    return epoch


def _warn_of_old_exports(run: RunDirectory) -> None:
    places = [run.path / form.default for form in FORMATS.values()]
    old = [str(path) for path in places if path.exists() and path != run.saved_model]
    if old:
        console.print(
            f"Exported before and not updated: {', '.join(old)}", style="yellow", soft_wrap=True
        )


def _describe(run: RunDirectory, plan: Plan, class_names: tuple[str, ...], epoch: int) -> None:
    """Writes the facts that are needed to judge the run and to repeat it."""
    plan.write(run.plan_file)
    files.write_text(run.classes_file, json.dumps(class_names, ensure_ascii=False))
    if not epoch:
        files.write_text(run.environment_file, json.dumps(runtime.describe(), indent=2) + "\n")


def _announce(plan: Plan, model: keras.Model, engine: Engine) -> None:
    classes = f" of {plan.classes} classes" if plan.classes else ""
    console.print(
        f"{plan.training_images:,} training and {plan.validation_images:,} validation images"
        f"{classes}; {model.count_params():,} parameters; {plan.total_updates:,} updates on "
        f"{keras.backend.backend()}",
        soft_wrap=True,
    )
    if plan.devices > 1:
        steps = plan.steps_per_epoch // plan.updates_per_epoch
        console.print(
            f"{engine.describe()}: {plan.device_batch_size:,} images on each device in a step, "
            f"{steps} {'step' if steps == 1 else 'steps'} an update; every epoch leaves out "
            f"{plan.omitted_images:,} images, which do not fill an update",
            soft_wrap=True,
        )


def _is_trained(run: RunDirectory, recipe: Recipe, plan: Plan, epoch: int) -> bool:
    """Returns whether training is over after this epoch, and only the report is missing."""
    return (
        epoch >= plan.epochs
        or (epoch > 0 and run.stopped_after() == epoch)
        or is_over(recipe.schedule.early_stopping, run.metrics())
    )


def _finish(job: _Job, validation: Split | None) -> Any:
    """Evaluates, reports and exports a trained run, and then marks it as finished."""
    task, run, recipe = job.task, job.run, job.recipe
    predictor = task.load_predictor(run, "last")
    evaluation = None
    if validation is not None:
        with as_data_error(validation):
            evaluation = task.evaluate(predictor, validation)
    try:
        for unfinished in (run.report, run.saved_model):
            if unfinished.exists():
                shutil.rmtree(unfinished)
        with as_data_error(validation, advice=RESUME_ADVICE):
            task.write_report(run.report, run.metrics(), evaluation, validation)
        if recipe.export.saved_model:
            write_saved_model(predictor, run.saved_model)
        run.finish(None if evaluation is None else evaluation.summary())
    except OSError as error:
        raise RunError(
            f"{error.filename or run.path} cannot be written: {error.strerror or error}. Training "
            f"itself is done. Free some space and start again with the same command."
        ) from error
    return evaluation


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
            checkpoint the classes are named by synset ids, such as `n01440764`, as in ImageNet; the
            folder need not have all of them.
        checkpoint: Of a run, `"last"`, `"best"` or `"best_ema"`; see `Predictor.load`. Defaults to
            `"last"`.
        on_bad_image: `"error"` or `"skip"`, for files in a folder that are not images. Defaults to
            the recipe's choice for a run's own images, and to `"error"` for `data`.
        split: The part of a `tfds:` data set, such as `"test"`.

    Returns:
        The evaluation. A run of another task than classification returns one of its own type.

    Raises:
        UserError: If the run, model or data does not exist, or they do not match; or if the number
            or the classes of a run's own images have changed since training.

    Example:
        >>> keras_convnext.evaluate("runs/digits").top(1)
        0.9889
    """
    check_split_has_data(data, split)
    check_on_bad_image(on_bad_image)
    check_checkpoint(checkpoint)
    found = resolve(source)
    predictor: Any = found.predictor(checkpoint)
    if data is not None:
        predictor, images = found.split(predictor, data, split, on_bad_image or "error")
    elif isinstance(found, RunSource):
        images = _own_validation_images(found, on_bad_image)
    else:
        raise UserError(
            f"{source} belongs to no run, so it has no validation images of its own. Pass `data` "
            f"(--data on the command line), a folder with one folder of images a class."
        )
    with as_data_error(images):
        evaluation: Any = found.task.evaluate(predictor, images)
    return evaluation


def _own_validation_images(source: RunSource, on_bad_image: str | None) -> Split:
    if source.run.recipe().data.validation_split is None:
        raise UserError(
            f"The run in {source.run.path} has no validation images: its recipe's "
            f"data.validation_split is null. Pass `data` (--data on the command line), a folder "
            f"with one folder of images a class."
        )
    return source.own_split("validation", on_bad_image)
