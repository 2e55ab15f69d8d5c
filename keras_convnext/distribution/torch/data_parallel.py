"""Plain `model.fit` in several processes, each with its own share of every step's images.

Keras 3.15 has no distribution library for PyTorch; version 3.16 is to have one. Once it reduces
gradients while the backward pass runs, and none on accumulation's inner steps, `data_parallel` can
hand the model over to it.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import torch
from torch.nn.parallel import DistributedDataParallel

from keras_convnext import keras_private
from keras_convnext.distribution.replicas import Place
from keras_convnext.distribution.torch import place, processes
from keras_convnext.distribution.torch.metrics import over_all_processes
from keras_convnext.distribution.torch.variables import copy_from_first_process
from keras_convnext.errors import UserError
from keras_convnext.kernels.torch.private import is_in_backward_pass
from keras_convnext.optimizers.keras_hooks import Hooks


def data_parallel(
    model: keras.Model, find_unused_parameters: bool = False, timeout: float | None = None
) -> None:
    """Lets `fit` and `evaluate` train and evaluate a model in all processes of torchrun together.

    Call it after `compile`. Every process passes `fit` its own share of the images, in batches of
    the same size and as many of them; the loss should be the mean over a batch. The update is then
    that of one process with all images. Gradients are reduced by PyTorch's
    `DistributedDataParallel` while the backward pass runs, over NCCL on GPUs and gloo on CPUs.
    Started without torchrun, on a host with one GPU or none, it does nothing.

    When `fit` begins, all processes take over the weights and the optimizer's state from that with
    rank 0. They stay equal, so one of them can save the model. The logs are those of all images,
    the same in every process, so that callbacks decide alike; a callback that decides by anything
    else, such as the time, must make all processes decide alike. `evaluate` counts the images of
    all processes, which may have different numbers of them. Both must be called in all processes.
    Within a step of `evaluate`, in `test_on_batch` and in `predict`, each process is by itself.

    With an optimizer of this package nothing is sent on the inner steps of gradient accumulation,
    and what they accumulate is not part of a saved model. With another optimizer, or the loss
    scaling of `mixed_float16`, gradients are reduced at every step. `StochasticDepth` drops the
    samples that it would on one process. BatchNorm has the statistics of its own process, as in
    PyTorch; those of rank 0 are evaluated and kept.

    Args:
        model: The model.
        find_unused_parameters: Whether to look at every step for weights that the outputs do not
            depend on, as `DistributedDataParallel` calls it. Defaults to `False`.
        timeout: Seconds within which all processes must start. Defaults to the environment variable
            KERAS_CONVNEXT_START_TIMEOUT or, if it is not set, to 300.

    Raises:
        UserError: If the processes cannot be joined, see `processes.join`, or there are several
            GPUs and no torchrun. When `fit` begins, if the processes have different models, or the
            model was compiled with `jit_compile`. After the first step, if a weight has no
            gradient, or the model's train step does not call the model.

    Example:
        >>> # torchrun --nproc-per-node 4 script.py
        >>> model.compile(keras_convnext.optimizers.AdamW(1e-3), "categorical_crossentropy")
        >>> data_parallel(model)
        >>> model.fit(own_share_of_batches, epochs=10)
    """
    processes.join(timeout)
    if processes.count() == 1:
        _check_that_one_process_is_meant()
    elif _attachment_of(model) is None:
        _move_to_own_gpu(model)
        _Attachment(model, find_unused_parameters).install()


def detach(model: keras.Model) -> None:
    """Undoes `data_parallel`: the model is trained in this process alone."""
    attachment = _attachment_of(model)
    if attachment is not None:
        attachment.remove()


def _check_that_one_process_is_meant() -> None:
    gpus = torch.cuda.device_count() if processes.on_gpu() else 1
    if gpus > 1 and not processes.is_started_by_torchrun():
        raise UserError(
            f"This host has {gpus} GPUs, and PyTorch needs a process for each. Start the script "
            f"with torchrun --nproc-per-node {gpus} SCRIPT, or leave one GPU visible with the "
            f"environment variable CUDA_VISIBLE_DEVICES."
        )


def _move_to_own_gpu(model: keras.Model) -> None:
    """Moves variables that were created before this process had joined, on the first GPU."""
    if not processes.on_gpu():
        return
    state = [] if model.optimizer is None else model.optimizer.variables
    of_metrics = [variable for metric in model.metrics for variable in metric.variables]
    for variable in [*model.variables, *state, *of_metrics]:
        variable.value.data = variable.value.data.to(torch.cuda.current_device())


def _attachment_of(model) -> "_Attachment | None":
    owner = getattr(vars(model).get("train_step"), "__self__", None)
    return owner if isinstance(owner, _Attachment) else None


class _Attachment:
    """Methods that a model in several processes has instead of its own.

    `model.call` goes through `DistributedDataParallel` only within a train step. Saving, exporting
    and predicting see the model as it is.
    """

    METHODS = ("make_train_function", "train_step", "test_step", "evaluate", "get_metrics_result")

    def __init__(self, model: keras.Model, find_unused_parameters: bool) -> None:
        self.model = model
        self.find_unused_parameters = find_unused_parameters
        self._before: dict[str, Any] = {}
        self._own: dict[str, Callable] = {}
        self._reducer: DistributedDataParallel | None = None
        self._parameters: list[torch.nn.Parameter] | None = None
        self._is_first_step = True
        self._was_called = False
        self._in_test_step = False
        self._evaluated: dict | None = None

    def install(self) -> None:
        """Replaces the model's methods."""
        self._before = {
            name: vars(self.model)[name] for name in self.METHODS if name in vars(self.model)
        }
        self._own = {name: getattr(self.model, name) for name in self.METHODS}
        # Not by `setattr`, with which Keras tracks what belongs to a model and is saved with it.
        vars(self.model).update({name: getattr(self, name) for name in self.METHODS})

    def remove(self) -> None:
        """Gives the model its own methods back."""
        for name in self.METHODS:
            del vars(self.model)[name]
        vars(self.model).update(self._before)

    def make_train_function(self, force=False):
        """Prepares the reduction; Keras calls it when `fit` begins, after all variables exist."""
        if self.model.jit_compile:
            raise UserError(
                "A model in several processes cannot be compiled by PyTorch, which compiles the "
                "whole train step with the reduction in it. Pass jit_compile=False to `compile`."
            )
        self._prepare()
        return self._own["make_train_function"](force)

    def train_step(self, data):
        """Trains on this process's share of a step."""
        if self._parameters is None:  # called by the user's own loop
            self._prepare()
        self._was_called = False
        here = Place(processes.rank(), processes.count(), replica=0, replicas=1)
        with place.within(here), self._accumulation(), _replaced(self.model, call=self._call_of()):
            logs = self._own["train_step"](data)
        if self._is_first_step:
            self._check_first_step()
        return logs

    def test_step(self, data):
        """Evaluates a batch of this process; the others may have more batches or fewer."""
        self._in_test_step = True
        try:
            return self._own["test_step"](data)
        finally:
            self._in_test_step = False

    def evaluate(self, *args, **kwargs):
        """Evaluates the shares of all processes, with the statistics of the one with rank 0."""
        copy_from_first_process(_statistics(self.model))
        self._evaluated = None
        results = self._own["evaluate"](*args, **kwargs)
        if results or not self._evaluated:
            return results
        # Without a batch of its own this process has no logs, but it has the results of all.
        values = {name: _as_number(value) for name, value in self._evaluated.items()}
        if isinstance(results, dict):
            return values
        return list(values.values()) if len(values) > 1 else next(iter(values.values()))

    def get_metrics_result(self):
        """Returns the results over all processes; within a test step, those of this process."""
        compute = self._own["get_metrics_result"]
        if self._in_test_step or keras_private.is_stateless():  # Keras builds metrics statelessly
            return compute()
        with over_all_processes(self.model.metrics):
            self._evaluated = compute()
        return self._evaluated

    def _prepare(self) -> None:
        parameters = [variable.value for variable in self.model.trainable_variables]
        if self._parameters is not None and _are_identical(parameters, self._parameters):
            return
        optimizer = self.model.optimizer
        state = [] if optimizer is None else optimizer.variables
        copy_from_first_process([*self.model.variables, *state])
        self._parameters = parameters
        self._is_first_step = True
        self._reducer = None
        if parameters:  # without any, Keras warns
            self._reducer = DistributedDataParallel(
                _Call(self.model.call, parameters),
                find_unused_parameters=self.find_unused_parameters,
                gradient_as_bucket_view=True,  # otherwise gradients would be copied back
            )

    def _call_of(self) -> Callable:
        """Returns what takes the place of `model.call` in a train step."""
        own_call, reducer = self.model.call, self._reducer

        def call(*args, **kwargs):
            if reducer is None or not torch.is_grad_enabled() or is_in_backward_pass():
                return own_call(*args, **kwargs)
            self._was_called = True
            return reducer(*args, **kwargs)

        return call

    @contextlib.contextmanager
    def _accumulation(self) -> Iterator[None]:
        """Lets PyTorch accumulate this process's gradients, and sends only their sum."""
        optimizer, steps = self._accumulating_optimizer()
        if steps == 1 or self._reducer is None:
            yield
            return
        done = optimizer.accumulated_steps()
        optimizer.gradients_are_sums = True
        try:
            with contextlib.ExitStack() as stack:
                if done:  # earlier gradients of the update are there
                    stack.enter_context(_replaced(self.model, zero_grad=_keep_gradients))
                if done < steps - 1:
                    stack.enter_context(self._reducer.no_sync())
                yield
        finally:
            optimizer.gradients_are_sums = False

    def _accumulating_optimizer(self) -> tuple[Any, int]:
        """Returns an optimizer that can take summed gradients, and its steps in an update."""
        optimizer = self.model.optimizer
        if not isinstance(optimizer, Hooks):  # such as Keras's scaling of the loss, see above
            return optimizer, 1
        return optimizer, optimizer.gradient_accumulation_steps or 1

    def _check_first_step(self) -> None:
        self._is_first_step = False
        if self._reducer is None:
            return
        if not self._was_called:
            raise UserError(
                f"The train step of {self.model.name!r} does not call the model itself, so its "
                f"gradients were not reduced over the processes. Let `train_step` compute its "
                f"outputs by `self(inputs, training=True)`."
            )
        unused = [
            variable.path
            for variable in self.model.trainable_variables
            if variable.value.grad is None
        ]
        if unused and not self.find_unused_parameters:
            raise UserError(
                f"The loss does not depend on these weights, so that the gradients of the others "
                f"were not reduced: {', '.join(unused)}. Freeze them by `trainable = False` before "
                f"`compile`, or pass find_unused_parameters=True to `data_parallel`."
            )


def _statistics(model: keras.Model) -> list[keras.Variable]:
    """Returns the variables that training changes other than by gradients, as BatchNorm's."""
    found = {}
    for layer in keras_private.flatten_layers(model):
        has_parts = bool(keras_private.flatten_layers(layer, include_self=False))
        if layer.trainable and not has_parts:
            found.update({id(one): one for one in layer.non_trainable_variables})
    return list(found.values())


class _Call(torch.nn.Module):
    """A module that has a model's trained parameters and computes its outputs."""

    def __init__(self, call: Callable, parameters: list[torch.nn.Parameter]) -> None:
        super().__init__()
        self.call = call
        self.parameters_of_model = torch.nn.ParameterList(parameters)

    def forward(self, *args, **kwargs):
        return self.call(*args, **kwargs)


@contextlib.contextmanager
def _replaced(model: keras.Model, **methods: Callable) -> Iterator[None]:
    """Gives a model other methods within the context."""
    before = {name: vars(model)[name] for name in methods if name in vars(model)}
    vars(model).update(methods)
    try:
        yield
    finally:
        for name in methods:
            del vars(model)[name]
        vars(model).update(before)


def _keep_gradients(set_to_none: bool = True) -> None:
    """Takes the place of `model.zero_grad` until the update."""


def _are_identical(first: list, second: list) -> bool:
    return len(first) == len(second) and all(a is b for a, b in zip(first, second, strict=True))


def _as_number(value):
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):  # a metric of several numbers
        return value
