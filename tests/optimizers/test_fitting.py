"""Updates within `model.fit`, with gradients computed by each framework."""

import keras
import numpy as np
import pytest
import torch
from references import KINDS, Reference, to_torch, warmup_cosine

from keras_convnext.schedules import WarmupCosine

UPDATES, WARMUP, STEPS, BATCH = 50, 10, 4, 4
RATE, DECAY, AVERAGE_DECAY, CLIP = 0.02, 0.1, 0.9, 0.3


@pytest.fixture
def model():
    return keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(3)]
    )


@pytest.fixture
def batches():
    random = np.random.default_rng(0)
    images = random.normal(size=(UPDATES * STEPS, BATCH, 5)).astype("float32")
    targets = np.sin(images @ random.normal(size=(5, 3))).astype("float32")
    return images, targets


def loss_of(parameters, inputs, targets):
    kernel_1, bias_1, kernel_2, bias_2 = parameters
    outputs = torch.tanh(torch.tensor(inputs) @ kernel_1 + bias_1) @ kernel_2 + bias_2
    return torch.nn.functional.mse_loss(outputs, torch.tensor(targets))


@pytest.mark.parametrize("steps", [1, STEPS])
@pytest.mark.parametrize("kind", ["adamw", "lamb", "sgd"])
def test_fifty_updates_are_those_of_pytorch(model, batches, kind, steps):
    weights = model.trainable_variables
    inputs, targets = (part[: UPDATES * steps] for part in batches)
    reference = Reference(
        kind, [to_torch(weight) for weight in weights], DECAY, AVERAGE_DECAY, clip_norm=CLIP
    )
    optimizer = KINDS[kind][0](
        WarmupCosine(RATE, UPDATES, WARMUP),
        weight_decay=DECAY,
        global_clipnorm=CLIP,
        use_ema=True,
        ema_momentum=AVERAGE_DECAY,
        gradient_accumulation_steps=steps if steps > 1 else None,
    )
    for update in range(UPDATES):
        losses = [
            loss_of(reference.parameters, inputs[step], targets[step])
            for step in range(update * steps, (update + 1) * steps)
        ]
        reference.update(losses, warmup_cosine(update, RATE, UPDATES, WARMUP))

    model.compile(optimizer, "mse")
    flat = (part.reshape(-1, part.shape[-1]) for part in (inputs, targets))
    model.fit(*flat, batch_size=BATCH, shuffle=False, verbose=0)

    assert int(keras.ops.convert_to_numpy(optimizer.iterations)) == UPDATES
    averages = [average for average, _ in optimizer.ema_pairs(weights)]
    pairs = [*zip(weights, reference.parameters, strict=True)]
    pairs += zip(averages, reference.averages(), strict=True)
    for ours, theirs in pairs:
        ours, theirs = keras.ops.convert_to_numpy(ours), theirs.detach().numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=5e-6, err_msg=kind)
