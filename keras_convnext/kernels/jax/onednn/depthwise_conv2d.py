"""Depthwise convolution for JAX on CPU by oneDNN, in a thirtieth of the time of XLA's own.

Its gradients are convolutions too: the inputs', with the kernel turned around; and the kernel's, of
every image with that image's output gradient as a kernel of the image's size.
"""

import functools

import jax
import jax.numpy as jnp

from keras_convnext.kernels.jax import depthwise_conv2d as by_xla
from keras_convnext.kernels.jax.onednn.calls import depthwise_convolution
from keras_convnext.kernels.jax.onednn.support import takes
from keras_convnext.kernels.jax.sums import exact, sum_of_rows


def depthwise_conv2d(inputs, kernel, bias=None, training: bool = False):
    """Same arguments and result as `kernels.depthwise_conv2d`."""
    if not takes(inputs, kernel, *(() if bias is None else (bias,))):
        return by_xla.depthwise_conv2d(inputs, kernel, bias)
    return _convolve(inputs, kernel, bias)


@jax.custom_vjp
def _convolve(inputs, kernel, bias=None):
    rows, columns = kernel.shape[:2]
    padding = rows // 2, columns // 2
    return depthwise_convolution(inputs, jnp.swapaxes(kernel, 2, 3), bias, padding)


def _forward(inputs, kernel, bias):
    return _convolve(inputs, kernel, bias), (inputs, kernel, bias)


def _backward(saved, output_gradient):
    inputs, kernel, bias = saved
    return (
        _convolve(output_gradient, _turned_around(kernel)),
        _kernel_gradient(inputs, output_gradient, kernel.shape[:2]),
        None if bias is None else sum_of_rows(output_gradient, bias.dtype),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _kernel_gradient(inputs, output_gradient, size):
    def add_gradient_of_image(total, of_image):
        image, gradient = of_image
        padding = size[0] // 2, size[1] // 2
        taps = depthwise_convolution(image[None], gradient[:, :, None], padding=padding)
        return total + taps[0].astype(total.dtype), None

    nothing = jnp.zeros((*size, inputs.shape[-1]), exact(inputs))
    images = inputs, output_gradient
    total, _ = jax.lax.scan(add_gradient_of_image, nothing, images)
    return total.astype(inputs.dtype)[..., None]


def _kernel_gradient_forward(inputs, output_gradient, size):
    return _kernel_gradient(inputs, output_gradient, size), (inputs, output_gradient)


def _kernel_gradient_backward(size, saved, kernel):
    inputs, output_gradient = saved
    return _convolve(output_gradient, _turned_around(kernel)), _convolve(inputs, kernel)


def _turned_around(kernel):
    return jnp.flip(kernel, axis=(0, 1))


_convolve.defvjp(_forward, _backward)
_kernel_gradient.defvjp(_kernel_gradient_forward, _kernel_gradient_backward)
