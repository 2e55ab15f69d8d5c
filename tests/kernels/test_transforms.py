"""Derivatives by transforms of functions, which hand-written gradients do not support."""

import functools

import keras
import numpy as np
import pytest
from gradients import largest_relative_error, random_tensors

from keras_convnext.kernels.select import VARIABLE
from keras_convnext.layers import Block, Downsampling, Stem

BACKEND = keras.backend.backend()
only_torch = pytest.mark.skipif(BACKEND != "torch", reason="these are PyTorch's transforms")
only_jax = pytest.mark.skipif(BACKEND != "jax", reason="these are JAX's transforms")
# Large enough for the depthwise convolution's own gradients.
SHAPE = (2, 40, 42, 6)


def layers():
    built = [Block(3, layer_scale_init_value=0.5), Stem(5, 2), Downsampling(4)]
    for layer in built:
        layer.build(SHAPE)
    return built


def loss_of(layer, training):
    """Returns a function of a layer's weights and images, and the weights."""
    weights = [weight.value for weight in layer.trainable_weights]

    def loss(weights, images):
        outputs, _ = layer.stateless_call(weights, [], images, training=training)
        return (outputs**2).mean()

    return loss, weights


@only_torch
@pytest.mark.parametrize("training", [False, True])
def test_grad_gives_the_gradients_of_backward(training):
    import torch

    (images,) = random_tensors([SHAPE])
    for layer in layers():
        loss, weights = loss_of(layer, training)
        gradients, of_images = torch.func.grad(loss, (0, 1))(weights, images)
        leaves = [weight.detach().requires_grad_() for weight in (*weights, images)]
        truth = torch.autograd.grad(loss(leaves[:-1], leaves[-1]), leaves)
        for result, expected in zip((*gradients, of_images), truth, strict=True):
            assert largest_relative_error(result, expected) < 1e-5


@only_torch
@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_vmap_gives_the_gradients_and_the_results_of_each_image(training, gradients):
    import torch

    (images,) = random_tensors([(3, *SHAPE)])
    for layer in layers():
        loss, weights = loss_of(layer, training)
        function = torch.func.grad(loss) if gradients else loss
        with torch.no_grad():
            results = torch.func.vmap(function, (None, 0))(weights, images)
        for number in range(3):
            expected = function(weights, images[number])
            pairs = zip(results, expected, strict=True) if gradients else [(results, expected)]
            for result, truth in pairs:
                result = result[number]
                torch.testing.assert_close(result, truth.detach(), rtol=1e-4, atol=1e-6)


@only_torch
@pytest.mark.parametrize("training", [False, True])
def test_forward_mode_gives_the_derivatives_of_reverse_mode(training):
    import torch
    from torch.autograd import forward_ad

    images, tangent = random_tensors([SHAPE, SHAPE])
    for layer in layers():
        loss, weights = loss_of(layer, training)
        expected = (torch.func.grad(loss, 1)(weights, images) * tangent).sum()
        of_images = functools.partial(loss, weights)
        _, along = torch.func.jvp(of_images, (images,), (tangent,))
        with forward_ad.dual_level():
            dual = of_images(forward_ad.make_dual(images, tangent))
            along_dual = forward_ad.unpack_dual(dual).tangent
        torch.testing.assert_close(along, expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(along_dual, expected, rtol=1e-4, atol=1e-6)


@only_torch
def test_transforms_and_backward_passes_are_recognized():
    import torch

    from keras_convnext.kernels.torch import double_backward, private

    assert double_backward.needs_plain_operations() is False
    assert private.is_in_backward_pass() is False
    seen = []

    def record(x):
        seen.append(double_backward.needs_plain_operations())
        return x.sum()

    torch.func.grad(record)(torch.ones(2))
    with torch.autograd.forward_ad.dual_level():
        record(torch.ones(2))
    assert seen == [True, True]
    leaf = torch.ones(2, requires_grad=True)
    leaf.register_hook(lambda _: seen.append(private.is_in_backward_pass()))
    leaf.sum().backward()
    assert seen == [True, True, True]


@only_jax
def test_forward_mode_is_refused_by_the_kernels_and_given_by_the_reference(monkeypatch):
    import jax

    images, tangent = random_tensors([(2, 5, 6, 4), (2, 5, 6, 4)])

    def derivatives():
        block = Block(3, layer_scale_init_value=0.5)
        block.build((2, 5, 6, 4))
        loss, weights = loss_of(block, True)
        reverse = jax.grad(loss, 1)(weights, images)
        return reverse, lambda: jax.jvp(lambda x: loss(weights, x), (images,), (tangent,))[1]

    _, forward = derivatives()
    with pytest.raises(TypeError, match="forward-mode"):
        forward()
    monkeypatch.setenv(VARIABLE, "reference")
    reverse, forward = derivatives()
    np.testing.assert_allclose(forward(), (reverse * tangent).sum(), rtol=1e-4, atol=1e-6)


@only_jax
def test_gradients_are_vectorized():
    import jax

    (images,) = random_tensors([(2, 1, 5, 6, 4)])
    block = Block(3, layer_scale_init_value=0.5)
    block.build((1, 5, 6, 4))
    loss, weights = loss_of(block, True)
    gradients = jax.vmap(jax.grad(loss, 1), (None, 0))(weights, images)
    for gradient, each in zip(gradients, images, strict=True):
        assert largest_relative_error(gradient, jax.grad(loss, 1)(weights, each)) < 1e-5
