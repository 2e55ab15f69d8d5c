"""Grad-CAM against PyTorch's gradients of timm's network, with the same weights."""

import keras
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

import keras_convnext
from keras_convnext import grad_cam
from keras_convnext.catalog import imagenet
from keras_convnext.errors import UserError

SIZE, CLASSES = 64, 5


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    sizes = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32), "num_classes": CLASSES}
    network = timm.models.convnext.ConvNeXt(**sizes).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return network


@pytest.fixture(scope="module")
def model(reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("timm") / "timm.safetensors"
    save_file(reference.state_dict(), path)
    return keras_convnext.model_from_weights(path, input_shape=(SIZE, SIZE, 3))


@pytest.fixture(scope="module")
def images():
    coarse = np.random.default_rng(0).uniform(0, 255, (3, 8, 8, 3))
    return coarse.repeat(8, axis=1).repeat(8, axis=2).astype("float32")


def by_pytorch(network, images, classes):
    """Equations 1 and 2 of the paper, with hooks' tensors, enlarged by PyTorch."""
    normalized = (images / 255 - imagenet.MEAN) / imagenet.STD
    maps = network.forward_features(torch.tensor(normalized).permute(0, 3, 1, 2).float())
    maps = maps.detach().requires_grad_()
    scores = network.forward_head(maps)
    scores[torch.arange(len(images)), torch.tensor(classes)].sum().backward()
    weights = maps.grad.mean(dim=(2, 3), keepdim=True)
    heat = torch.relu((weights * maps).sum(dim=1, keepdim=True))
    heat = heat / heat.amax(dim=(2, 3), keepdim=True).clamp(min=1e-30)
    enlarged = torch.nn.functional.interpolate(heat.detach(), (SIZE, SIZE), mode="bilinear")
    return enlarged[:, 0].numpy()


@pytest.mark.parametrize("class_index", range(CLASSES))
def test_heat_is_that_of_pytorch(model, reference, images, class_index):
    found = grad_cam(model, images, class_index)
    assert found.shape == (3, SIZE, SIZE) and found.dtype == "float32"
    expected = by_pytorch(reference, images, [class_index] * 3)
    assert expected.any()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_most_probable_class_is_explained_by_default(model, images):
    best = model.predict(images, verbose=0).argmax(axis=1)
    for image, class_index, heat in zip(images, best, grad_cam(model, images), strict=True):
        np.testing.assert_allclose(grad_cam(model, image, int(class_index)), heat, atol=1e-5)


def test_a_nested_backbone_is_looked_into(model, images):
    backbone = keras.Model(model.inputs[0], model.layers[-1].input)
    head = keras.layers.Dense(CLASSES, "softmax")
    nested = keras.Sequential([backbone, head])
    head.set_weights(model.layers[-1].get_weights())
    np.testing.assert_allclose(grad_cam(nested, images, 2), grad_cam(model, images, 2), atol=1e-5)


@pytest.mark.parametrize("use_bias", [True, False])
def test_a_single_output_is_of_the_second_of_two_classes(model, images, use_bias):
    features = model.layers[-1].input
    one = keras.layers.Dense(1, "sigmoid", use_bias=use_bias)
    single = keras.Model(model.inputs[0], one(features))
    two = keras.layers.Dense(2, use_bias=use_bias)
    double = keras.Model(model.inputs[0], two(features))
    kernel, *bias = one.get_weights()
    both = [np.concatenate([0 * kernel, kernel], axis=1), *(np.append(0 * b, b) for b in bias)]
    two.set_weights(both)
    np.testing.assert_allclose(grad_cam(single, images, 1), grad_cam(double, images, 1), atol=1e-5)
    # What speaks most for one class does not speak for the other.
    for_first, for_second = grad_cam(single, images, 0), grad_cam(single, images, 1)
    assert (for_second == 1).any() and for_first[for_second == 1].max() == 0


def test_what_cannot_be_explained_is_refused(model, images):
    with pytest.raises(UserError, match=r"`class_index` must be from 0 to 4.*Received: 5"):
        grad_cam(model, images, 5)
    with pytest.raises(UserError, match=r"`images` must have the shape.*Received: \(64, 64\)"):
        grad_cam(model, images[0, ..., 0])
    flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(UserError, match="must pool feature maps"):
        grad_cam(flat, images)
    headless = keras.Model(model.inputs[0], model.layers[-1].input)
    with pytest.raises(UserError, match="must be a Dense layer"):
        grad_cam(headless, images)
