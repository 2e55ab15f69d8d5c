"""The output of a classifier: logits in training, probabilities in use."""

import itertools
from typing import Any

import keras
from keras import layers

from keras_convnext.errors import UserError

_KNOWN = {name: getattr(keras.activations, name) for name in ("linear", "softmax", "sigmoid")}
# Layers that pass values on unchanged in inference.
_PASSING = (layers.Identity, layers.Dropout, layers.ActivityRegularization)


def with_probabilities(model: keras.Model, binary: bool = False) -> keras.Model:
    """Returns a model that outputs probabilities, with the layers and weights of `model`.

    A last layer without activation outputs logits, and a softmax is added. Softmax and sigmoid
    output probabilities already; those of a sigmoid are independent of each other. A single output
    is the probability of the second of two classes, as with Keras's binary labels; the result has
    both, `(batch, 2)`.

    Args:
        model: A functional or sequential classifier with one output, `(batch, classes)`.
        binary: Whether a single output without activation is a logit, to which a sigmoid is added.
            Defaults to `False`, since it may as well be the value of a regression.

    Raises:
        UserError: If the model outputs neither logits nor probabilities, or it is unclear which.

    Example:
        >>> classifier = with_probabilities(ConvNeXtTiny(classifier_activation=None))
    """
    classes = _classes(model)
    layer = _last_layer(model)
    activation = _activation(layer)
    if activation not in _KNOWN:
        raise UserError(
            f"It cannot be told whether {model.name!r} gives logits or probabilities. Its last "
            f"layer must be a Dense layer or an activation: linear for logits, softmax or sigmoid "
            f"for probabilities. Received: {layer.name!r}, a {type(layer).__name__} layer"
            f"{f' with the activation {activation}' if activation else ''}."
        )
    if classes == 1:
        return _of_one_output(model, activation, binary)
    output = model.outputs[0]
    if activation == "linear":
        name = _free_name(model, "probabilities")
        output = layers.Softmax(dtype=output.dtype, name=name)(output)
    return _from_images_to(output, model)


def is_multi_label(classifier: keras.Model) -> bool:
    """Returns whether the probabilities are independent, so that several classes may be present.

    Args:
        classifier: A model returned by `with_probabilities`.
    """
    return _activation(_last_layer(classifier)) == "sigmoid"


def _of_one_output(model, activation, binary):
    """Returns a model that outputs the probabilities of both classes of a single output."""
    if activation == "softmax":
        raise UserError(
            f"{model.name!r} has a softmax over a single output, which is 1.0 for every image. "
            f"Give its last layer two outputs, or a sigmoid."
        )
    if activation == "linear" and not binary:
        raise UserError(
            f"{model.name!r} has a single output without activation, which may be a logit or the "
            f"value of a regression, and only a classifier can be used here. If it is a logit, "
            f"name both classes, that of low values first: Predictor.of_model(model, "
            f"class_names=('cat', 'dog')); or end the model in a sigmoid."
        )
    second = model.outputs[0]
    dtype = second.dtype
    if activation == "linear":
        sigmoid = layers.Activation("sigmoid", dtype=dtype, name=_free_name(model, "second_class"))
        second = sigmoid(second)
    rest = layers.Rescaling(-1.0, 1.0, dtype=dtype, name=_free_name(model, "first_class"))
    both = layers.Concatenate(dtype=dtype, name=_free_name(model, "probabilities"))
    return _from_images_to(both([rest(second), second]), model)


def _from_images_to(output, model) -> keras.Model:
    """Returns the functional model of one tensor to another; `model` itself if it is that."""
    is_sequential = isinstance(model, keras.Sequential)
    if not is_sequential and output is model.output and keras.utils.is_keras_tensor(model.input):
        return model
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.inputs
    return keras.Model(inputs, output, name=model.name)


def _classes(model) -> int:
    """Returns the size of a classifier's only output."""
    outputs = getattr(model, "outputs", None)
    if outputs is None:
        raise UserError(
            f"{model.name!r} must be a functional or sequential model that is built. What a "
            f"{type(model).__name__} gives cannot be told before it is called: call it on a "
            f"keras.Input, and make a keras.Model of the two."
        )
    if len(outputs) != 1:
        raise UserError(
            f"{model.name!r} is no classifier: it must have one output. Received: {len(outputs)} "
            f"outputs. Make a keras.Model of the one that gives the classes."
        )
    output = outputs[0]
    if len(output.shape) != 2 or output.shape[-1] is None:
        raise UserError(
            f"{model.name!r} is no classifier: its output must have the shape (batch, classes). "
            f"Received: {tuple(output.shape)}."
        )
    return output.shape[-1]


def _last_layer(model) -> Any:
    """Returns the layer that computes the output, within nested models too."""
    tensor = model.outputs[0]
    while True:
        layer, node, index = tensor._keras_history
        if isinstance(layer, keras.Model) and hasattr(layer, "outputs"):
            tensor = layer.outputs[index]
        elif isinstance(layer, _PASSING) or _is_linear_activation(layer):
            tensor = layer._inbound_nodes[node].input_tensors[0]
        else:
            return layer


def _is_linear_activation(layer) -> bool:
    return isinstance(layer, layers.Activation) and _activation(layer) == "linear"


def _activation(layer) -> str | None:
    """Returns the name of a layer's activation, quoted if it is not Keras's; `None` for none."""
    if isinstance(layer, layers.Softmax):
        return "softmax" if layer.axis in (-1, 1) else f"softmax over axis {layer.axis}"
    activation = getattr(layer, "activation", None)
    if activation is None:
        return None
    known = (name for name, function in _KNOWN.items() if function is activation)
    return next(known, f"{getattr(activation, '__name__', activation)!r}")


def _free_name(model, name: str) -> str:
    """Returns a name that no layer of the model has."""
    taken = {layer.name for layer in model.layers}
    names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))
    return next(one for one in names if one not in taken)
