"""The gradients of a loss for every weight are those that PyTorch finds."""

import keras
import numpy as np
import pytest
from comparison import relative_error
from transformers_reference import (
    channels_first,
    in_keras_layout,
    network_pair,
    reference_name,
)


def loss_and_gradients(model, images, labels):
    """Returns the cross-entropy and its gradients, in the order of `model.trainable_variables`."""
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = cross_entropy(labels, model(images, training=True))
        weights = [variable.value for variable in model.trainable_variables]
        return loss.numpy(), [gradient.numpy() for gradient in tape.gradient(loss, weights)]
    if keras.backend.backend() == "jax":
        import jax

        def loss_of(trainable, non_trainable):
            logits, _ = model.stateless_call(trainable, non_trainable, images, training=True)
            return cross_entropy(labels, logits)

        states = [
            [variable.value for variable in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]
        return jax.jit(jax.value_and_grad(loss_of))(*states)
    loss = cross_entropy(labels, model(images, training=True))
    loss.backward()
    gradients = [variable.value.grad.numpy() for variable in model.trainable_variables]
    return loss.detach().numpy(), gradients


# The odd size leaves out rows and columns, whose gradient is zero, in the stem and further on.
@pytest.mark.parametrize("size", [(64, 64), (53, 79)], ids=str)
def test_gradient_of_every_weight_equals_the_reference(toy, size):
    import torch

    reference, model = network_pair(**toy, classes=5, input_shape=(*size, 3))
    images = np.random.default_rng(0).normal(size=(3, *size, 3)).astype("float32")
    labels = np.array([0, 3, 4])

    expected_loss = torch.nn.functional.cross_entropy(
        reference(channels_first(images)).logits, torch.from_numpy(labels)
    )
    expected_loss.backward()
    loss, gradients = loss_and_gradients(model, images, labels)

    assert float(loss) == pytest.approx(expected_loss.item(), rel=1e-4)
    weights = dict(reference.named_parameters())
    assert len(gradients) == len(weights)
    errors = {}
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        expected = weights[reference_name(variable.path)].grad
        errors[variable.path] = relative_error(gradient, in_keras_layout(variable.path, expected))
    assert {path: error for path, error in errors.items() if not error < 1e-3} == {}
