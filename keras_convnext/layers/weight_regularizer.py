"""Regularizers of a layer that can be changed at any time."""

from typing import Any

import keras


class WeightRegularizer:
    """A layer's attribute `<name>_regularizer`, which regularizes the weights of that name.

    Keras's own layers read such an attribute once, when they create the weights. A regularizer set
    here is part of the layer's losses from then on. A compiled train function keeps the old one
    until `model.compile` is called again.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._weight = name.removesuffix("_regularizer")
        self._attribute = f"_{name}"

    def __get__(self, layer: keras.layers.Layer | None, owner: type | None = None) -> Any:
        return self if layer is None else getattr(layer, self._attribute)

    def __set__(self, layer: keras.layers.Layer, value: Any) -> None:
        regularizer = keras.regularizers.get(value)
        setattr(layer, self._attribute, regularizer)
        regularize(layer, self._weight, regularizer)


def regularize(layer: keras.layers.Layer, name: str, regularizer: Any) -> None:
    """Sets the regularizer of a layer's weights of one name, such as `"kernel"`."""
    for weight in layer.weights:
        if weight.name == name:
            weight.regularizer = regularizer
