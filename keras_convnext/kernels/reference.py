"""The contracts of the operations, with their references made of `keras.ops`.

Every implementation has the name and the signature of a function here and is tested against it.
`select` returns one of them. All take and return tensors; layers and dtype policies are unknown
here. `training` tells an implementation that gradients will be computed, so that it can save what
they need; gradients can be computed in any case.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from keras import ops

# Below this size, a gradient computed image by image costs more in calls than it saves.
MIN_VALUES_PER_IMAGE = 2**13


def depthwise_conv2d(inputs, kernel, bias=None, training: bool = False):
    """Convolves each channel with its own kernel: stride 1, zero padding, same size.

    Args:
        inputs: Tensor of shape `(batch, height, width, channels)`.
        kernel: Tensor of shape `(size, size, channels, 1)` with an odd size.
        bias: Tensor of shape `(channels,)`, or `None`.
        training: See the module.

    Returns:
        Tensor of the shape of `inputs`.
    """
    outputs = ops.depthwise_conv(inputs, kernel, padding="same", data_format="channels_last")
    return outputs if bias is None else outputs + bias


def patch_conv2d(inputs, kernel, bias, training: bool = False):
    """Convolves with a stride equal to the kernel size, so that each pixel is read once.

    Rows and columns that do not fill a patch are ignored.

    Args:
        inputs: Tensor of shape `(batch, height, width, channels)`.
        kernel: Tensor of shape `(size, size, channels, filters)`.
        bias: Tensor of shape `(filters,)`.
        training: See the module.

    Returns:
        Tensor of shape `(batch, height // size, width // size, filters)`.
    """
    size = kernel.shape[0]
    outputs = ops.conv(inputs, kernel, size, padding="valid", data_format="channels_last")
    return outputs + bias


def layer_norm(inputs, gamma, beta, epsilon: float, training: bool = False):
    """Applies LayerNorm over the last axis.

    Args:
        inputs: Tensor of shape `(..., channels)`.
        gamma: Factors, of shape `(channels,)`.
        beta: Offsets, of shape `(channels,)`.
        epsilon: Added to the variance.
        training: See the module.

    Returns:
        Tensor of the shape and dtype of `inputs`.
    """
    return ops.layer_normalization(inputs, gamma, beta, axis=-1, epsilon=epsilon)


class BlockParams(NamedTuple):
    """The weights of `norm_mlp`, or their gradients.

    Attributes:
        gamma: Factors of LayerNorm, of shape `(channels,)`.
        beta: Offsets of LayerNorm, of shape `(channels,)`.
        kernel_1: Kernel of the first dense layer, of shape `(channels, hidden)`.
        bias_1: Its bias, of shape `(hidden,)`.
        kernel_2: Kernel of the second dense layer, of shape `(hidden, channels)`.
        bias_2: Its bias, of shape `(channels,)`.
        scale: Layer scale, of shape `(channels,)`, or `None` for a block without it.
    """

    gamma: Any
    beta: Any
    kernel_1: Any
    bias_1: Any
    kernel_2: Any
    bias_2: Any
    scale: Any = None

    def map_dense(self, function: Callable) -> "BlockParams":
        """Returns the weights with a function applied to those of the dense layers."""
        return self._replace(
            kernel_1=function(self.kernel_1),
            bias_1=function(self.bias_1),
            kernel_2=function(self.kernel_2),
            bias_2=function(self.bias_2),
        )

    def map_norm(self, function: Callable) -> "BlockParams":
        """Returns the weights with a function applied to those of LayerNorm."""
        return self._replace(gamma=function(self.gamma), beta=function(self.beta))


def norm_mlp(inputs, params: BlockParams, epsilon: float, training: bool = False):
    """Applies LayerNorm, a dense layer, exact GELU, a second dense layer and layer scale.

    This is a ConvNeXt block after its depthwise convolution. It is one operation because of
    training. Run as separate layers, a block saves eight activations per pixel and channel for the
    backward pass. The fused version saves six: it recomputes the normalized input, and derives the
    gradient of layer scale from the gradient of the second kernel.

    Args:
        inputs: Tensor of shape `(..., channels)`.
        params: The weights. Weights of another dtype than the inputs are cast, except `scale`,
            whose initial values would underflow in half precision.
        epsilon: Added to LayerNorm's variance.
        training: See the module.

    Returns:
        Tensor of the shape and dtype of `inputs`.
    """
    cast = params.map_norm(lambda weight: ops.cast(weight, inputs.dtype))
    cast = cast.map_dense(lambda weight: ops.cast(weight, inputs.dtype))
    normed = ops.layer_normalization(inputs, cast.gamma, cast.beta, axis=-1, epsilon=epsilon)
    hidden = ops.gelu(ops.matmul(normed, cast.kernel_1) + cast.bias_1, approximate=False)
    outputs = ops.matmul(hidden, cast.kernel_2) + cast.bias_2
    return outputs if params.scale is None else ops.cast(outputs * params.scale, inputs.dtype)


def save_unscaled(rows: int | None, hidden: int) -> bool:
    """Whether `norm_mlp` saves the input of layer scale for the backward pass.

    Without it, the gradient of layer scale takes two passes over the second kernel, which only pays
    off for many rows.

    Args:
        rows: Number of pixels of all images; `None` if it is not known while tracing.
        hidden: Number of hidden units.
    """
    return rows is not None and rows < hidden


class AdamMoments(NamedTuple):
    """The running averages that AdamW keeps for a weight, as variables of the weight's shape.

    Attributes:
        exp_avg: Average of the gradients.
        exp_avg_sq: Average of the squared gradients.
        max_exp_avg_sq: Elementwise maximum of `exp_avg_sq` so far with AMSGrad, else `None`.
    """

    exp_avg: Any
    exp_avg_sq: Any
    max_exp_avg_sq: Any = None


def adamw(update, learning_rate, betas: Sequence[float], epsilon: float) -> Callable:
    """Prepares one update of AdamW, and returns the function that applies it to a weight.

    What all weights share is computed once: in TensorFlow's graph it would otherwise appear once
    for each of them.

    Args:
        update: Number of this update, from 1, a scalar tensor in float32.
        learning_rate: Scalar tensor.
        betas: Decay rates of the two averages.
        epsilon: Added to the denominator, after bias correction, as in PyTorch.

    Returns:
        A function of `(variable, gradient, moments, lr_multiplier, weight_decay)`, which changes
        the variable and its `AdamMoments` in place. `lr_multiplier` is a factor on the learning
        rate of this variable, and `weight_decay` is decoupled: it is multiplied by that rate.
    """
    bias_corrections = adam_bias_corrections(update, betas)

    def apply(variable, gradient, moments, lr_multiplier: float, weight_decay: float) -> None:
        direction = adam_direction(gradient, moments, betas, bias_corrections, epsilon)
        if weight_decay:
            direction = direction + weight_decay * variable
        rate = ops.cast(learning_rate, variable.dtype) * lr_multiplier
        variable.assign_sub(rate * direction)

    return apply


def adam_bias_corrections(update, betas: Sequence[float]) -> list:
    """Returns Adam's bias corrections, 1 - beta**update, for both averages."""
    return [_bias_correction(beta, update) for beta in betas]


def _bias_correction(beta, update):
    if beta == 0:
        return ops.ones_like(update)
    # The power itself is so close to 1 in the first updates that float32 would lose digits.
    return -ops.expm1(update * math.log(beta))


def adam_direction(
    gradient, moments: AdamMoments, betas: Sequence[float], bias_corrections, epsilon: float
):
    """Updates the moments in place, and returns Adam's direction without weight decay."""
    beta_1, beta_2 = betas
    exp_avg, exp_avg_sq, max_exp_avg_sq = moments
    exp_avg.assign_add((gradient - exp_avg) * (1 - beta_1))
    exp_avg_sq.assign_add((ops.square(gradient) - exp_avg_sq) * (1 - beta_2))
    if max_exp_avg_sq is not None:
        max_exp_avg_sq.assign(ops.maximum(max_exp_avg_sq, exp_avg_sq))
        exp_avg_sq = max_exp_avg_sq
    # Keras adds epsilon to the root before bias correction, PyTorch after it. In the first updates
    # that is a factor of 30 on epsilon, which matters for small gradients.
    bias_correction1, bias_correction2 = bias_corrections
    root = ops.sqrt(exp_avg_sq) / ops.cast(ops.sqrt(bias_correction2), gradient.dtype)
    return exp_avg / ops.cast(bias_correction1, gradient.dtype) / (root + epsilon)
