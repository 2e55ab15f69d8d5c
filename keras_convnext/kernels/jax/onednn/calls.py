"""oneDNN's matmul and depthwise convolution for JAX on CPU.

XLA includes oneDNN and reaches it through custom calls whose settings are JSON. They are private
to XLA: see `jax.onednn.support` for when they are used. An exported function contains none of them,
since it must not depend on the machine it was exported on.
"""

import functools
import json
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

MATMUL, CONVOLUTION = "__onednn$matmul", "__onednn$convolution"


def matmul(a, b, bias=None, transpose_a: bool = False, transpose_b: bool = False, gelu=False):
    """Returns the product of two matrices, with an optional bias and exact GELU.

    Args:
        a: Matrix, or its transpose with `transpose_a`.
        b: Matrix, or its transpose with `transpose_b`.
        bias: Vector with a value for each column of the product, or `None`.
        transpose_a: Whether to transpose `a`.
        transpose_b: Whether to transpose `b`.
        gelu: Whether to apply GELU; needs a bias.

    Raises:
        ValueError: If shapes or dtypes do not match. oneDNN would end the process.
    """
    _check_matmul(a, b, bias, transpose_a, transpose_b)
    shape = a.shape[1 if transpose_a else 0], b.shape[0 if transpose_b else 1]
    settings: dict = {"transpose_a": transpose_a, "transpose_b": transpose_b}
    if bias is None:
        return _call(MATMUL, {"onednn_matmul_config": settings}, shape, _matmul, a, b)
    settings["fusions"] = {"ops": ["BIAS", "GELU_ERF"] if gelu else ["BIAS"]}
    row = bias[jnp.newaxis]
    return _call(MATMUL, {"onednn_matmul_config": settings}, shape, _matmul, a, b, row)


def _check_matmul(a, b, bias, transpose_a, transpose_b):
    inner, columns = (-1, 0) if transpose_b else (0, -1)
    fits = a.ndim == b.ndim == 2 and a.shape[0 if transpose_a else 1] == b.shape[inner]
    fits = fits and (bias is None or bias.shape == (b.shape[columns],))
    if not fits or not _share_a_dtype(a, b, bias):
        transposed = f"transpose_a={transpose_a}, transpose_b={transpose_b}"
        raise ValueError(
            f"matmul takes two matrices that share their inner dimension, a bias with a value for "
            f"each column of the result, and one dtype for all. Received: {_described(a, b, bias)} "
            f"({transposed})."
        )


def _matmul(config, a, b, *bias):
    """Computes the same with XLA's own operations."""
    settings = config["onednn_matmul_config"]
    a = a.T if settings["transpose_a"] else a
    b = b.T if settings["transpose_b"] else b
    outputs = jnp.matmul(a, b)
    for row in bias:
        outputs += row
    with_gelu = "GELU_ERF" in settings.get("fusions", {}).get("ops", ())
    return jax.nn.gelu(outputs, approximate=False) if with_gelu else outputs


def depthwise_convolution(inputs, kernel, bias=None, padding: tuple[int, int] = (0, 0)):
    """Convolves each channel with its own kernel, with stride 1.

    Args:
        inputs: Array of shape `(batch, height, width, channels)`.
        kernel: Array of shape `(rows, columns, 1, channels)`.
        bias: Array of shape `(channels,)`, or `None`.
        padding: Rows and columns of zeros on each side.

    Raises:
        ValueError: If shapes or dtypes do not match. oneDNN would end the process.
    """
    _check_convolution(inputs, kernel, bias, padding)
    batch, *size, channels = inputs.shape
    sides = (side + 2 * pad for side, pad in zip(size, padding, strict=True))
    size = [side - taps + 1 for side, taps in zip(sides, kernel.shape[:2], strict=True)]
    images = {"dims": 4, "data": {"batch_dim": 0, "feature_dim": 3, "spatial_dims": [1, 2]}}
    taps = {"input_feature_dim": 2, "output_feature_dim": 3, "spatial_dims": [0, 1]}
    settings = {
        "dims": 4,
        "input": images,
        "kernel": {"dims": 4, "filter": taps},
        "output": images,
        "window": {
            "size": kernel.shape[:2],
            "pad_left": padding,
            "pad_right": padding,
            "strides": [1, 1],
            "window_dilations": [1, 1],
        },
        "feature_groups": channels,
    }
    biases = () if bias is None else (bias,)
    if biases:
        settings["fusions"] = {"ops": ["BIAS"]}
    config, shape = {"onednn_conv_config": settings}, (batch, *size, channels)
    return _call(CONVOLUTION, config, shape, _convolution, inputs, kernel, *biases)


def _check_convolution(inputs, kernel, bias, padding):
    fits = inputs.ndim == kernel.ndim == 4 and kernel.shape[2:] == (1, inputs.shape[-1])
    fits = fits and (bias is None or bias.shape == inputs.shape[-1:])
    # A kernel larger than the padded image would leave no pixels.
    sides = zip(inputs.shape[1:3], padding, kernel.shape[:2], strict=True)
    fits = fits and all(side + 2 * pad >= taps for side, pad, taps in sides)
    if not fits or not _share_a_dtype(inputs, kernel, bias):
        raise ValueError(
            f"A depthwise convolution takes inputs of shape (batch, height, width, channels), a "
            f"kernel of shape (rows, columns, 1, channels) no larger than the padded inputs, a "
            f"bias of shape (channels,), and one dtype for all. "
            f"Received: {_described(inputs, kernel, bias)} (padding={padding})."
        )


def _convolution(config, inputs, kernel, *bias):
    """Computes the same with XLA's own operations."""
    rows, columns = config["onednn_conv_config"]["window"]["pad_left"]
    outputs = jax.lax.conv_general_dilated(
        inputs,
        kernel,
        window_strides=(1, 1),
        padding=((rows, rows), (columns, columns)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=inputs.shape[-1],
    )
    return outputs + bias[0] if bias else outputs


def _share_a_dtype(*operands) -> bool:
    return len({operand.dtype for operand in operands if operand is not None}) == 1


def _described(*operands) -> str:
    return ", ".join(f"{x.dtype}{list(x.shape)}" for x in operands if x is not None)


_onednn = Primitive("onednn")


def _call(target: str, config: dict, shape: tuple[int, ...], with_xla: Callable, *operands):
    return _onednn.bind(
        *operands, target=target, config=json.dumps(config), shape=shape, with_xla=with_xla
    )


def _run_with_xla(*operands, target, config, shape, with_xla):
    return with_xla(json.loads(config), *operands)


def _lower(context, *operands, target, config, shape, with_xla):
    if context.module_context.lowering_parameters.for_export:
        parameters = {"target": target, "config": config, "shape": shape, "with_xla": with_xla}
        return mlir.lower_fun(_run_with_xla, multiple_results=False)(
            context, *operands, **parameters
        )
    return jax.ffi.ffi_lowering(target, backend_config=config, api_version=1)(context, *operands)


def _batch(operands, axes, **parameters):
    return jax.vmap(functools.partial(_run_with_xla, **parameters), axes)(*operands), 0


_onednn.def_impl(jax.jit(_onednn.bind, static_argnames=("target", "config", "shape", "with_xla")))
_onednn.def_abstract_eval(lambda first, *_, shape, **__: jax.core.ShapedArray(shape, first.dtype))
mlir.register_lowering(_onednn, mlir.lower_fun(_run_with_xla, multiple_results=False))
mlir.register_lowering(_onednn, _lower, platform="cpu")
batching.primitive_batchers[_onednn] = _batch
