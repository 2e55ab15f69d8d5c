"""A convolution of patches as one matrix multiplication, for the backends where that is faster."""

from keras import ops


def patch_matmul(inputs, kernel, bias):
    """Computes `patch_conv2d` as one matrix multiplication, and so its gradients too."""
    return ops.matmul(extract_patches(inputs, kernel.shape[0]), as_matrix(kernel)) + bias


def extract_patches(inputs, size: int):
    """Returns the patches of images as vectors (im2col); incomplete patches are left out.

    Args:
        inputs: Tensor of shape `(batch, height, width, channels)`.
        size: Side of a patch in pixels.

    Returns:
        Tensor of shape `(batch, height // size, width // size, size * size * channels)`.
    """
    height, width, channels = ops.shape(inputs)[1:]
    rows, columns = height // size, width // size
    whole = inputs[:, : rows * size, : columns * size]
    split = ops.reshape(whole, (-1, rows, size, columns, size * channels))
    patches = ops.transpose(split, (0, 1, 3, 2, 4))
    return ops.reshape(patches, (-1, rows, columns, size * size * channels))


def as_matrix(kernel):
    """Returns a convolution kernel as a matrix with one row per value of a patch."""
    return ops.reshape(kernel, (-1, kernel.shape[-1]))
