"""What the arguments of the kernels must look like, checked before anything native is called.

A native call that is given shapes that do not fit may end the process, or read past an array's end.
Layers check their inputs by an `input_spec` and make their own weights, so these checks are for
calls from outside of a built layer; only the size of an image is checked at every call.
"""


def check_depthwise_conv2d(inputs, kernel, bias) -> None:
    """Raises `ValueError` if the arguments of `depthwise_conv2d` do not fit."""
    _check_rank("depthwise_conv2d", inputs)
    channels, shape = inputs.shape[-1], tuple(kernel.shape)
    if len(shape) != 4 or shape[2:] != (channels, 1) or not all(side % 2 for side in shape[:2]):
        raise ValueError(
            f"depthwise_conv2d takes a `kernel` of shape (side, side, {channels}, 1), with an odd "
            f"side, for inputs of shape {tuple(inputs.shape)}. Received: a kernel of shape {shape}."
        )
    if bias is not None:
        _check_weights("depthwise_conv2d", inputs, {"bias": (bias, (channels,))})


def check_layer_norm(inputs, gamma, beta) -> None:
    """Raises `ValueError` if the arguments of `layer_norm` do not fit."""
    vector = (inputs.shape[-1],) if len(inputs.shape) else ()
    _check_weights("layer_norm", inputs, {"gamma": (gamma, vector), "beta": (beta, vector)})


def check_norm_mlp(inputs, gamma, beta, kernel_1, bias_1, kernel_2, bias_2, scale) -> None:
    """Raises `ValueError` if the arguments of `norm_mlp` do not fit."""
    check_layer_norm(inputs, gamma, beta)
    channels, hidden = inputs.shape[-1], kernel_1.shape[-1]
    expected = {
        "kernel_1": (kernel_1, (channels, hidden)),
        "bias_1": (bias_1, (hidden,)),
        "kernel_2": (kernel_2, (hidden, channels)),
        "bias_2": (bias_2, (channels,)),
    }
    if scale is not None:
        expected["scale"] = scale, (channels,)
    _check_weights("norm_mlp", inputs, expected)


def check_patch_conv2d(inputs, kernel, bias) -> None:
    """Raises `ValueError` if the arguments of `patch_conv2d` do not fit."""
    _check_rank("patch_conv2d", inputs)
    side, filters = kernel.shape[0], kernel.shape[-1]
    expected = {
        "kernel": (kernel, (side, side, inputs.shape[-1], filters)),
        "bias": (bias, (filters,)),
    }
    _check_weights("patch_conv2d", inputs, expected)


def check_image_size(inputs, side: int) -> None:
    """Raises `ValueError` if images are too small for one patch.

    Sizes that are not known yet, as in a traced function of any image size, pass.

    Args:
        inputs: Tensor of shape `(batch, height, width, channels)`.
        side: Side of a patch in pixels.
    """
    _, height, width, _ = inputs.shape
    if (type(height) is int and height < side) or (type(width) is int and width < side):
        raise ValueError(f"{too_small(side)} Received: inputs of shape {tuple(inputs.shape)}.")


def wrong_gradient(gradient, weight) -> ValueError:
    """Returns the error for a gradient that does not have the shape of its weight."""
    return ValueError(
        f"A gradient must have the shape of its weight. Received: a gradient of shape "
        f"{gradient.shape} for a weight of shape {weight.shape}."
    )


def too_small(side: int) -> str:
    """Returns the sentences that say that images are too small for one patch.

    Args:
        side: Side of a patch in pixels.
    """
    return (
        f"The images are too small: nothing is left of them where the network takes patches of "
        f"{side}x{side} pixels. Give the network larger images; a ConvNeXt of four stages needs at "
        f"least 32x32 pixels, one of S stages with patches of P pixels at least P * 2**(S - 1)."
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
