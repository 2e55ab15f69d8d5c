"""LayerNorm for PyTorch, whose own takes half precision as it is and works in float32 inside.

Keras casts the values there and back, each a pass of its own.
"""

import torch


def layer_norm(inputs, gamma, beta, epsilon: float, training: bool = False):
    """Same arguments and result as `kernels.layer_norm.reference`."""
    return torch.nn.functional.layer_norm(inputs, gamma.shape, gamma, beta, epsilon)
