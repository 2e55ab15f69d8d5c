"""What a published checkpoint sees, against Pillow and torchvision's own transforms."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

import keras_convnext
from keras_convnext import Preprocessor
from keras_convnext.errors import DataError, UserError, WeightsError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def photographs():
    """Returns both sample photographs (427 high, 640 wide), whole and in odd parts."""
    china, flower = (load_sample_image(f"{name}.jpg") for name in ("china", "flower"))
    return [
        china,
        flower,
        china.transpose(1, 0, 2),
        flower[:331, :509],
        china[13:400, 100:301],
        china[100:201, 200:263],
    ]


def by_torchvision(image, size):
    """The official evaluation: `datasets.py`, with torchvision's transforms on a Pillow image."""
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode

    resized = transforms.Resize(
        (size, size) if size >= 384 else int(size / 0.875), InterpolationMode.BICUBIC
    )
    return np.asarray(transforms.CenterCrop(size)(resized(Image.fromarray(image))))


@pytest.mark.backend_free
@pytest.mark.parametrize("name", ["convnext_tiny.fb_in1k", "convnext_base.fb_in22k_ft_in1k_384"])
def test_photographs_are_prepared_as_by_torchvision(name):
    preprocess = Preprocessor.for_weights(name)
    for image in photographs():
        ours = preprocess(image)
        theirs = by_torchvision(image, preprocess.image_size).astype(int)
        assert ours.shape == theirs.shape
        difference = np.abs(ours - theirs)
        assert difference.max() <= 1
        assert difference.mean() <= 0.1


@pytest.mark.backend_free
@pytest.mark.parametrize("size", [(64, 96), (96, 64), (50, 400)])
@pytest.mark.parametrize("crop_fraction", [0.875, 1.0])
def test_sizes_that_are_not_square_are_covered_and_cut(size, crop_fraction):
    """By Pillow: the smallest image of the same aspect ratio that covers size / crop_fraction."""
    height, width = size
    for image in photographs():
        least = [int(side / crop_fraction) for side in size]
        scale = max(least[0] / image.shape[0], least[1] / image.shape[1])
        full = [max(a, int(scale * b + 1e-9)) for a, b in zip(least, image.shape[:2], strict=True)]
        resized = Image.fromarray(image).resize(full[::-1], Image.Resampling.BICUBIC)
        top, left = round((full[0] - height) / 2), round((full[1] - width) / 2)
        expected = np.asarray(resized.crop((left, top, left + width, top + height))).astype(int)
        found = Preprocessor(size, crop_fraction)(image)
        assert found.shape == (height, width, 3)
        assert np.abs(found - expected).max() <= 1


@pytest.mark.backend_free
def test_a_square_may_be_given_by_both_sides():
    assert Preprocessor((64, np.int64(64))) == Preprocessor(64)
    assert Preprocessor([32, 48]).image_shape == (32, 48, 3)
    assert hash(Preprocessor([32, 48])) == hash(Preprocessor((32, 48)))


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((0,), "`image_size` must be a positive whole number.*Received: 0"),
        (((64, 64, 3),), r"`image_size` must be .*Received: \(64, 64, 3\)"),
        (("64",), "`image_size` must be"),
        ((64, 1.5), "`crop_fraction` must be above 0 and at most 1. Received: 1.5"),
        ((64, 0.0), "`crop_fraction` must be above 0"),
        ((64, 1.0, 0), "`channels` must be at least 1. Received: 0"),
    ],
)
def test_a_transform_that_cannot_be_is_refused(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        Preprocessor(*arguments)


@pytest.mark.backend_free
def test_values_that_are_no_pixels_are_resized_without_rounding():
    bands = np.random.default_rng(0).uniform(-0.5, 0.5, (40, 60, 5)) + 3000
    found = Preprocessor(16, 1.0, channels=5)(bands)
    assert found.shape == (16, 16, 5)
    assert 2999 < found.min() < found.max() < 3001
    assert np.abs(found - np.round(found)).max() > 0.01


@pytest.mark.backend_free
def test_a_file_is_prepared_as_its_pixels(tmp_path):
    image = photographs()[0]
    Image.fromarray(image).save(tmp_path / "china.png")
    preprocess = Preprocessor(64, 1.0)
    np.testing.assert_array_equal(preprocess(tmp_path / "china.png"), preprocess(image))
    np.testing.assert_array_equal(preprocess(str(tmp_path / "china.png")), preprocess(image))


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("name", "size", "crop_fraction"),
    [
        ("convnext_tiny.fb_in1k", 224, 0.875),
        ("convnext_xlarge.fb_in22k", 224, 0.875),
        ("convnext_large.fb_in1k_384", 384, 1.0),
        ("convnext_isotropic_small.fb_in1k", 224, 0.875),
    ],
)
def test_checkpoints_bring_their_transform(name, size, crop_fraction):
    assert Preprocessor.for_weights(name) == Preprocessor(size, crop_fraction)


@pytest.mark.backend_free
def test_what_cannot_be_prepared_is_said(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(DataError, match="There is no file"):
        Preprocessor(64)(tmp_path / "none.jpg")
    with pytest.raises(DataError, match=r"text.jpg cannot be read as an image"):
        Preprocessor(64)(tmp_path / "text.jpg")
    with pytest.raises(
        WeightsError, match=r"no published checkpoint called 'convnext_tiny.fb_in2k'"
    ):
        Preprocessor.for_weights("convnext_tiny.fb_in2k")


def test_networks_of_random_weights_see_the_same_class(tmp_path):
    import timm
    import torch
    from safetensors.torch import save_file

    preprocess = Preprocessor.for_weights("convnext_tiny.fb_in1k")
    images = photographs()
    torch.manual_seed(0)
    reference = timm.models.convnext.ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
        normalised = [
            (by_torchvision(image, 224) / 255 - IMAGENET_MEAN) / IMAGENET_STD for image in images
        ]
        theirs = reference(torch.tensor(np.stack(normalised)).permute(0, 3, 1, 2).float()).numpy()

    save_file(reference.state_dict(), tmp_path / "timm.safetensors")
    model = keras_convnext.model_from_weights(
        tmp_path / "timm.safetensors", classifier_activation=None
    )
    ours = model.predict(np.stack([preprocess(image) for image in images]), verbose=0)

    np.testing.assert_array_equal(ours.argmax(axis=1), theirs.argmax(axis=1))
    assert len(set(theirs.argmax(axis=1))) > 1
