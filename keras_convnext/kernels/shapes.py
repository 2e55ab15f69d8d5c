"""Checks of shapes, before a native operation is called with them.

A native operation that gets shapes that do not match may end the process, or read past the end of
an array. Layers check their inputs with an `input_spec` and create their own weights, so they call
an operation unchecked; only the size of an image is checked in every call. `checked` is for calls
from outside a layer.
"""

import functools
from collections.abc import Callable
from typing import Any

from keras_convnext.kernels.reference import BlockParams


def checked(operation: str, implementation: Callable) -> Callable:
    """Returns an implementation that raises `ValueError` for shapes that do not match.

    Args:
        operation: Name of the operation, any but `"adamw"`.
        implementation: As returned by `select`.

    Example:
        >>> convolve = checked("depthwise_conv2d", select("depthwise_conv2d", kernel_size=7))
    """

    @functools.wraps(implementation)
    def run(inputs, *arguments, **named):
        CHECKS[operation](inputs, *arguments)
        return implementation(inputs, *arguments, **named)

    return run


def check_depthwise_conv2d(inputs, kernel, bias=None, *_: Any) -> None:
    """Raises `ValueError` if the shapes of `depthwise_conv2d` do not match."""
    _check_rank("depthwise_conv2d", inputs)
    channels, shape = inputs.shape[-1], tuple(kernel.shape)
    if len(shape) != 4 or shape[2:] != (channels, 1) or not all(side % 2 for side in shape[:2]):
        raise ValueError(
            f"depthwise_conv2d takes a `kernel` of shape (side, side, {channels}, 1), with an odd "
            f"side, for inputs of shape {tuple(inputs.shape)}. Received: a kernel of shape {shape}."
        )
    if bias is not None:
        _check_weights("depthwise_conv2d", inputs, {"bias": (bias, (channels,))})


def check_patch_conv2d(inputs, kernel, bias, *_: Any) -> None:
    """Raises `ValueError` if the shapes of `patch_conv2d` do not match."""
    _check_rank("patch_conv2d", inputs)
    side, filters = kernel.shape[0], kernel.shape[-1]
    expected = {
        "kernel": (kernel, (side, side, inputs.shape[-1], filters)),
        "bias": (bias, (filters,)),
    }
    _check_weights("patch_conv2d", inputs, expected)
    check_image_size(inputs, side)


def check_layer_norm(inputs, gamma, beta, *_: Any) -> None:
    """Raises `ValueError` if the shapes of `layer_norm` do not match."""
    vector = (inputs.shape[-1],) if len(inputs.shape) else ()
    _check_weights("layer_norm", inputs, {"gamma": (gamma, vector), "beta": (beta, vector)})


def check_norm_mlp(inputs, params: BlockParams, *_: Any) -> None:
    """Raises `ValueError` if the shapes of `norm_mlp` do not match."""
    check_layer_norm(inputs, params.gamma, params.beta)
    channels, hidden = inputs.shape[-1], params.kernel_1.shape[-1]
    expected = {
        "kernel_1": (params.kernel_1, (channels, hidden)),
        "bias_1": (params.bias_1, (hidden,)),
        "kernel_2": (params.kernel_2, (hidden, channels)),
        "bias_2": (params.bias_2, (channels,)),
    }
    if params.scale is not None:
        expected["scale"] = params.scale, (channels,)
    _check_weights("norm_mlp", inputs, expected)


CHECKS: dict[str, Callable[..., None]] = {
    "depthwise_conv2d": check_depthwise_conv2d,
    "patch_conv2d": check_patch_conv2d,
    "layer_norm": check_layer_norm,
    "norm_mlp": check_norm_mlp,
}


def check_image_size(inputs, side: int) -> None:
    """Raises `ValueError` if images are smaller than a patch.

    A size that is unknown while tracing passes.

    Args:
        inputs: Tensor of shape `(batch, height, width, channels)`.
        side: Side of a patch in pixels.
    """
    _, height, width, _ = inputs.shape
    if (type(height) is int and height < side) or (type(width) is int and width < side):
        raise ValueError(f"{too_small(side)} Received: inputs of shape {tuple(inputs.shape)}.")


def wrong_gradient(gradient, weight) -> ValueError:
    """Returns the error for a gradient whose shape is not that of its weight."""
    return ValueError(
        f"A gradient must have the shape of its weight. Received: a gradient of shape "
        f"{gradient.shape} for a weight of shape {weight.shape}."
    )


def too_small(side: int) -> str:
    """Returns the message for images that are smaller than a patch.

    Args:
        side: Side of a patch in pixels.
    """
    return (
        f"The images are too small: no pixels are left for a layer that takes patches of "
        f"{side}x{side} pixels. Use larger images: a ConvNeXt with four stages needs at least "
        f"32x32 pixels, and one with S stages and patches of P pixels at least P * 2**(S - 1)."
    )


def _check_rank(operation, inputs):
    if len(inputs.shape) != 4:
        raise ValueError(
            f"{operation} takes `inputs` of shape (batch, height, width, channels). "
            f"Received: inputs of shape {tuple(inputs.shape)}."
        )


def _check_weights(operation, inputs, expected):
    for name, (weight, shape) in expected.items():
        if tuple(weight.shape) != shape:
            raise ValueError(
                f"{operation} takes a `{name}` of shape {shape} for inputs of shape "
                f"{tuple(inputs.shape)}. Received: a {name} of shape {tuple(weight.shape)}."
            )
