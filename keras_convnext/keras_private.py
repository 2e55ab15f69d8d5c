"""Private names of Keras that several parts need, in one place.

Tested with Keras 3.9 to 3.15. `tests/test_private_apis.py` checks that each still does what is said
here. Those of the optimizers are in `optimizers/keras_hooks.py`.
"""

import contextlib
import itertools
from typing import Any

import keras
from keras.src.backend.common.stateless_scope import in_stateless_scope

try:
    from keras.src.backend import AutocastScope
except ImportError:  # then weights are read in the compute dtype, and half precision loses digits
    AutocastScope = None


def is_stateless() -> bool:
    """Whether assignments to variables are being recorded instead of made.

    That is so within `stateless_call`, `stateless_apply`, and on JAX within `fit`. The scope is
    public (`keras.StatelessScope`), the question whether one is active is not.
    """
    return in_stateless_scope()


def without_autocast() -> contextlib.AbstractContextManager:
    """Returns a context in which variables are read in the dtype they are stored in.

    Within a layer's `call` Keras reads them in the layer's compute dtype. The public way to avoid
    that, `add_weight(autocast=False)`, is only open to the layer that creates the weight.
    """
    return contextlib.nullcontext() if AutocastScope is None else AutocastScope(None)


def flatten_layers(
    layer: keras.layers.Layer, include_self: bool = True, recursive: bool = True
) -> list[keras.layers.Layer]:
    """Returns the layers that a layer holds.

    For a model there is `.layers`; for a layer made of layers there is no public name.

    Args:
        layer: A layer or model.
        include_self: Whether the layer itself is one of them. Defaults to `True`.
        recursive: Whether the layers of its layers are too. Defaults to `True`.
    """
    return list(layer._flatten_layers(include_self=include_self, recursive=recursive))


def tensors_of(layer: keras.layers.Layer, model: keras.Model) -> tuple[Any, Any]:
    """Returns the first input and output of a layer in the graph of a model.

    Of a model nested in another, the public `input` and `output` are those of its own graph.

    Args:
        layer: One of the model's layers.
        model: A functional or sequential model.
    """
    graph = getattr(model, "_functional", None) or model
    nodes = itertools.chain(*graph._nodes_by_depth.values())
    node = next(node for node in nodes if node.operation is layer)
    inputs = node.input_tensors or node.output_tensors  # an input layer has none
    return inputs[0], node.output_tensors[0]
