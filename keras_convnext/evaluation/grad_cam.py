"""Grad-CAM: which parts of an image speak for a class.

Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization" (2017), equations 1 and 2, at the last feature map.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_convnext.errors import UserError
from keras_convnext.keras_private import tensors_of


def grad_cam(model: keras.Model, images: np.ndarray, class_index: int | None = None) -> np.ndarray:
    """Returns how much each pixel's surroundings speak for a class, from 0 to 1.

    Args:
        model: A functional or sequential classifier that pools its feature maps and ends in a Dense
            layer, with or without an activation, such as `ConvNeXtTiny()`. The feature maps may be
            in a model nested in it, as in `Sequential([backbone, Dense(2)])`. A single output
            belongs to the second of two classes.
        images: Images as the model takes them, `(batch, height, width, channels)` or `(height,
            width, channels)`.
        class_index: Number of the class. Defaults to `None`, the class that the model finds most
            probable in each image.

    Returns:
        `float32` array of shape `(batch, height, width)`, or `(height, width)` for one image: 1
        where the evidence is greatest, 0 where there is none or it speaks against the class.

    Raises:
        UserError: If the model or the images are of another kind, or there is no such class.

    Example:
        >>> model = keras_convnext.ConvNeXtTiny(weights="imagenet")
        >>> image = keras_convnext.Preprocessor(224)("cat.jpg")
        >>> heatmap = keras_convnext.grad_cam(model, image)  # (224, 224)
    """
    images = np.asarray(images)
    if images.ndim not in (3, 4):
        raise UserError(
            f"`images` must have the shape (batch, height, width, channels), or (height, width, "
            f"channels). Received: {images.shape}."
        )
    batch = images if images.ndim == 4 else images[np.newaxis]
    dense, features_tensor = _last_dense(model)
    to_maps, to_features = _split(model, features_tensor)
    maps = to_maps(ops.convert_to_tensor(batch))
    kernel, bias = _kernel_and_bias(dense)
    features = ops.convert_to_numpy(ops.cast(to_features(maps), "float32"))
    classes = _classes(class_index, features @ kernel + bias)
    directions = ops.convert_to_tensor(kernel.T[classes], maps.dtype)
    gradient = _gradient(lambda x: ops.sum(to_features(x) * directions), maps)
    weights = ops.mean(gradient, axis=(1, 2), keepdims=True)
    evidence = ops.convert_to_numpy(ops.sum(ops.cast(weights * maps, "float32"), axis=-1))
    heat = _enlarged(_between_0_and_1(evidence), batch.shape[1:3])
    return heat if images.ndim == 4 else heat[0]


def _kernel_and_bias(dense: keras.layers.Dense) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weights of the classes' scores, `(features, classes)` and `(classes,)`."""
    weights = [np.asarray(weight, "float32") for weight in dense.get_weights()]
    kernel = weights[0]
    bias = weights[1] if dense.use_bias else np.zeros(kernel.shape[1], "float32")
    if len(bias) > 1:
        return kernel, bias
    # What speaks for the second of two classes speaks against the first.
    return np.concatenate([-kernel, kernel], axis=1) / 2, np.concatenate([-bias, bias]) / 2


def _classes(class_index: int | None, logits: np.ndarray) -> np.ndarray:
    if class_index is None:
        return logits.argmax(axis=-1)
    if not 0 <= class_index < logits.shape[-1]:
        raise UserError(
            f"`class_index` must be from 0 to {logits.shape[-1] - 1}, the number of the last "
            f"class. Received: {class_index!r}."
        )
    return np.full(len(logits), class_index)


def _last_dense(model: keras.Model) -> tuple[keras.layers.Dense, Any]:
    """Returns the layer that tells the classes apart, and the tensor that it is given."""
    layer = next((one for one in reversed(model.layers) if one.weights), None)
    if not isinstance(layer, keras.layers.Dense) or layer.quantization_mode:
        raise UserError(
            f"The last layer of {model.name!r} that has weights must be a Dense layer in floating "
            f"point. Received: {'no layer' if layer is None else type(layer).__name__}."
        )
    return layer, tensors_of(layer, model)[0]


def _split(model: keras.Model, target: Any) -> tuple[Callable, Callable]:
    """Returns the model up to its last feature maps, and the one from there to a tensor."""
    for layer in model.layers:
        maps, pooled = tensors_of(layer, model)
        if len(maps.shape) == 4 and len(pooled.shape) == 2:
            break
    else:
        raise UserError(
            f"{model.name!r} must pool feature maps (batch, height, width, channels) to (batch, "
            f"channels). There is no such layer in it."
        )
    before, after = _between(model.inputs[0], maps), _between(pooled, target)
    if not isinstance(layer, keras.Model):
        pool = _between(maps, pooled)
        return before, lambda x: after(pool(x))
    to_maps, to_pooled = _split(layer, layer.outputs[0])
    return lambda x: to_maps(before(x)), lambda x: after(to_pooled(x))


def _between(tensor: Any, target: Any) -> Callable:
    """Returns the part of a model between two of its tensors."""
    if tensor is target:
        return lambda x: x
    part = keras.Model(tensor, target)
    return lambda x: part(x, training=False)


def _gradient(function: Callable, x: Any) -> Any:
    """Returns the gradient of a scalar function."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            result = function(x)
        return tape.gradient(result, x)
    if backend == "jax":
        import jax

        return jax.grad(function)(x)
    import torch

    x = x.detach().requires_grad_()
    return torch.autograd.grad(function(x), x)[0]


def _between_0_and_1(evidence: np.ndarray) -> np.ndarray:
    evidence = np.maximum(evidence, 0)
    greatest = evidence.max(axis=(1, 2), keepdims=True)
    return np.divide(evidence, greatest, out=np.zeros_like(evidence), where=greatest > 0)


def _enlarged(heat: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    resized = ops.image.resize(heat[..., np.newaxis], size, interpolation="bilinear")
    return ops.convert_to_numpy(resized)[..., 0]
