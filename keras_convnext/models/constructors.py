"""The networks of the paper, one function each, with the signature of `keras.applications`.

The arguments of all eight are those of `keras_convnext.ConvNeXt` from `include_top` on. Each
function passes its own to `create_model`, under the name of its row in the table.
"""

import os
from collections.abc import Sequence
from typing import Any

import keras

from keras_convnext.models.registry import create_model


def ConvNeXtTiny(
    include_top: bool = True,
    include_preprocessing: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    drop_path_rate: float = 0.0,
    layer_scale_init_value: float | None = 1e-6,
    head_init_scale: float = 1.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> keras.Model:
    """Builds ConvNeXt-T: 28.6 million parameters, 4.5 billion multiply-adds at 224x224.

    Blocks (3, 3, 9, 3), channels (96, 192, 384, 768), patches of 4 pixels. Source: "A ConvNet
    for the 2020s", table 1. See `keras_convnext.ConvNeXt` for the arguments and the errors.

    Args:
        include_top: Whether it ends in a classifier.
        include_preprocessing: Whether it takes values from 0 to 255 and normalizes them.
        weights: `None`, `"imagenet"`, the tag or name of a published checkpoint, or a file.
        input_tensor: Keras tensor to build on.
        input_shape: Shape of one image.
        pooling: Without the top, `"avg"`, `"max"` or `None`.
        classes: Classes of the classifier. Defaults to those of `weights`, or 1000.
        classifier_activation: Activation of the classifier; `None` gives logits.
        name: Name of the model. Defaults to `"convnext_tiny"`.
        drop_path_rate: Stochastic depth of the last block, in [0, 1).
        layer_scale_init_value: Initial value of layer scale; `None` for none.
        head_init_scale: Factor on the classifier's initial weights.
        mean: Mean of each channel, on a scale of 0 to 1. Defaults to that of `weights`.
        std: Standard deviation of each channel, likewise.

    Returns:
        A functional `keras.Model` from `(batch, height, width, 3)` to `(batch, classes)`.

    Example:
        >>> model = keras_convnext.ConvNeXtTiny(classes=10, drop_path_rate=0.1)
    """
    return create_model("convnext_tiny", **locals())


def ConvNeXtSmall(
    include_top: bool = True,
    include_preprocessing: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    drop_path_rate: float = 0.0,
    layer_scale_init_value: float | None = 1e-6,
    head_init_scale: float = 1.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> keras.Model:
    """Builds ConvNeXt-S: 50.2 million parameters, 8.7 billion multiply-adds at 224x224.

    Blocks (3, 3, 27, 3), channels (96, 192, 384, 768), patches of 4 pixels. Source: "A ConvNet
    for the 2020s", table 1. See `keras_convnext.ConvNeXt` for the arguments and the errors.

    Args:
        include_top: Whether it ends in a classifier.
        include_preprocessing: Whether it takes values from 0 to 255 and normalizes them.
        weights: `None`, `"imagenet"`, the tag or name of a published checkpoint, or a file.
        input_tensor: Keras tensor to build on.
        input_shape: Shape of one image.
        pooling: Without the top, `"avg"`, `"max"` or `None`.
        classes: Classes of the classifier. Defaults to those of `weights`, or 1000.
        classifier_activation: Activation of the classifier; `None` gives logits.
        name: Name of the model. Defaults to `"convnext_small"`.
        drop_path_rate: Stochastic depth of the last block, in [0, 1).
        layer_scale_init_value: Initial value of layer scale; `None` for none.
        head_init_scale: Factor on the classifier's initial weights.
        mean: Mean of each channel, on a scale of 0 to 1. Defaults to that of `weights`.
        std: Standard deviation of each channel, likewise.

    Returns:
        A functional `keras.Model` from `(batch, height, width, 3)` to `(batch, classes)`.

    Example:
        >>> model = keras_convnext.ConvNeXtSmall(classes=10, drop_path_rate=0.1)
    """
    return create_model("convnext_small", **locals())


def ConvNeXtBase(
    include_top: bool = True,
    include_preprocessing: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    drop_path_rate: float = 0.0,
    layer_scale_init_value: float | None = 1e-6,
    head_init_scale: float = 1.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> keras.Model:
    """Builds ConvNeXt-B: 88.6 million parameters, 15.4 billion multiply-adds at 224x224.

    Blocks (3, 3, 27, 3), channels (128, 256, 512, 1024), patches of 4 pixels. Source: "A ConvNet
    for the 2020s", table 1. See `keras_convnext.ConvNeXt` for the arguments and the errors.

    Args:
        include_top: Whether it ends in a classifier.
        include_preprocessing: Whether it takes values from 0 to 255 and normalizes them.
        weights: `None`, `"imagenet"`, the tag or name of a published checkpoint, or a file.
        input_tensor: Keras tensor to build on.
        input_shape: Shape of one image.
        pooling: Without the top, `"avg"`, `"max"` or `None`.
        classes: Classes of the classifier. Defaults to those of `weights`, or 1000.
        classifier_activation: Activation of the classifier; `None` gives logits.
        name: Name of the model. Defaults to `"convnext_base"`.
        drop_path_rate: Stochastic depth of the last block, in [0, 1).
        layer_scale_init_value: Initial value of layer scale; `None` for none.
        head_init_scale: Factor on the classifier's initial weights.
        mean: Mean of each channel, on a scale of 0 to 1. Defaults to that of `weights`.
        std: Standard deviation of each channel, likewise.

    Returns:
        A functional `keras.Model` from `(batch, height, width, 3)` to `(batch, classes)`.

    Example:
        >>> model = keras_convnext.ConvNeXtBase(classes=10, drop_path_rate=0.1)
    """
    return create_model("convnext_base", **locals())


def ConvNeXtLarge(
    include_top: bool = True,
    include_preprocessing: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    drop_path_rate: float = 0.0,
    layer_scale_init_value: float | None = 1e-6,
    head_init_scale: float = 1.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> keras.Model:
    """Builds ConvNeXt-L: 197.8 million parameters, 34.4 billion multiply-adds at 224x224.

    Blocks (3, 3, 27, 3), channels (192, 384, 768, 1536), patches of 4 pixels. Source: "A ConvNet
    for the 2020s", table 1. See `keras_convnext.ConvNeXt` for the arguments and the errors.

    Args:
        include_top: Whether it ends in a classifier.
        include_preprocessing: Whether it takes values from 0 to 255 and normalizes them.
        weights: `None`, `"imagenet"`, the tag or name of a published checkpoint, or a file.
        input_tensor: Keras tensor to build on.
        input_shape: Shape of one image.
        pooling: Without the top, `"avg"`, `"max"` or `None`.
        classes: Classes of the classifier. Defaults to those of `weights`, or 1000.
        classifier_activation: Activation of the classifier; `None` gives logits.
        name: Name of the model. Defaults to `"convnext_large"`.
        drop_path_rate: Stochastic depth of the last block, in [0, 1).
        layer_scale_init_value: Initial value of layer scale; `None` for none.
        head_init_scale: Factor on the classifier's initial weights.
        mean: Mean of each channel, on a scale of 0 to 1. Defaults to that of `weights`.
        std: Standard deviation of each channel, likewise.

    Returns:
        A functional `keras.Model` from `(batch, height, width, 3)` to `(batch, classes)`.

    Example:
        >>> model = keras_convnext.ConvNeXtLarge(classes=10, drop_path_rate=0.1)
    """
    return create_model("convnext_large", **locals())


def ConvNeXtXLarge(
    include_top: bool = True,
    include_preprocessing: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    drop_path_rate: float = 0.0,
    layer_scale_init_value: float | None = 1e-6,
    head_init_scale: float = 1.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> keras.Model:
    """Builds ConvNeXt-XL: 350.2 million parameters, 60.9 billion multiply-adds at 224x224.

    Blocks (3, 3, 27, 3), channels (256, 512, 1024, 2048), patches of 4 pixels. Source: "A ConvNet
    for the 2020s", table 1. See `keras_convnext.ConvNeXt` for the arguments and the errors.

    Args:
        include_top: Whether it ends in a classifier.
        include_preprocessing: Whether it takes values from 0 to 255 and normalizes them.
        weights: `None`, `"imagenet"`, the tag or name of a published checkpoint, or a file.
        input_tensor: Keras tensor to build on.
        input_shape: Shape of one image.
        pooling: Without the top, `"avg"`, `"max"` or `None`.
        classes: Classes of the classifier. Defaults to those of `weights`, or 1000.
        classifier_activation: Activation of the classifier; `None` gives logits.
        name: Name of the model. Defaults to `"convnext_xlarge"`.
        drop_path_rate: Stochastic depth of the last block, in [0, 1).
        layer_scale_init_value: Initial value of layer scale; `None` for none.
        head_init_scale: Factor on the classifier's initial weights.
        mean: Mean of each channel, on a scale of 0 to 1. Defaults to that of `weights`.
        std: Standard deviation of each channel, likewise.

    Returns:
        A functional `keras.Model` from `(batch, height, width, 3)` to `(batch, classes)`.

    Example:
        >>> model = keras_convnext.ConvNeXtXLarge(classes=10, drop_path_rate=0.1)
    """
    return create_model("convnext_xlarge", **locals())


def ConvNeXtIsotropicSmall(
    include_top: bool = True,
    include_preprocessing: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    drop_path_rate: float = 0.0,
    layer_scale_init_value: float | None = None,
    head_init_scale: float = 1.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> keras.Model:
    """Builds isotropic ConvNeXt-S: 22.3 million parameters, 4.3 billion multiply-adds at 224x224.

    Blocks (18,), channels (384,), patches of 16 pixels. Source: "A ConvNet
    for the 2020s", table 2. See `keras_convnext.ConvNeXt` for the arguments and the errors.

    Args:
        include_top: Whether it ends in a classifier.
        include_preprocessing: Whether it takes values from 0 to 255 and normalizes them.
        weights: `None`, `"imagenet"`, the tag or name of a published checkpoint, or a file.
        input_tensor: Keras tensor to build on.
        input_shape: Shape of one image.
        pooling: Without the top, `"avg"`, `"max"` or `None`.
        classes: Classes of the classifier. Defaults to those of `weights`, or 1000.
        classifier_activation: Activation of the classifier; `None` gives logits.
        name: Name of the model. Defaults to `"convnext_isotropic_small"`.
        drop_path_rate: Stochastic depth of the last block, in [0, 1).
        layer_scale_init_value: Initial value of layer scale; `None` for none.
        head_init_scale: Factor on the classifier's initial weights.
        mean: Mean of each channel, on a scale of 0 to 1. Defaults to that of `weights`.
        std: Standard deviation of each channel, likewise.

    Returns:
        A functional `keras.Model` from `(batch, height, width, 3)` to `(batch, classes)`.

    Example:
        >>> model = keras_convnext.ConvNeXtIsotropicSmall(classes=10, drop_path_rate=0.1)
    """
    return create_model("convnext_isotropic_small", **locals())


def ConvNeXtIsotropicBase(
    include_top: bool = True,
    include_preprocessing: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    drop_path_rate: float = 0.0,
    layer_scale_init_value: float | None = None,
    head_init_scale: float = 1.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> keras.Model:
    """Builds isotropic ConvNeXt-B: 87.1 million parameters, 16.9 billion multiply-adds at 224x224.

    Blocks (18,), channels (768,), patches of 16 pixels. Source: "A ConvNet
    for the 2020s", table 2. See `keras_convnext.ConvNeXt` for the arguments and the errors.

    Args:
        include_top: Whether it ends in a classifier.
        include_preprocessing: Whether it takes values from 0 to 255 and normalizes them.
        weights: `None`, `"imagenet"`, the tag or name of a published checkpoint, or a file.
        input_tensor: Keras tensor to build on.
        input_shape: Shape of one image.
        pooling: Without the top, `"avg"`, `"max"` or `None`.
        classes: Classes of the classifier. Defaults to those of `weights`, or 1000.
        classifier_activation: Activation of the classifier; `None` gives logits.
        name: Name of the model. Defaults to `"convnext_isotropic_base"`.
        drop_path_rate: Stochastic depth of the last block, in [0, 1).
        layer_scale_init_value: Initial value of layer scale; `None` for none.
        head_init_scale: Factor on the classifier's initial weights.
        mean: Mean of each channel, on a scale of 0 to 1. Defaults to that of `weights`.
        std: Standard deviation of each channel, likewise.

    Returns:
        A functional `keras.Model` from `(batch, height, width, 3)` to `(batch, classes)`.

    Example:
        >>> model = keras_convnext.ConvNeXtIsotropicBase(classes=10, drop_path_rate=0.1)
    """
    return create_model("convnext_isotropic_base", **locals())


def ConvNeXtIsotropicLarge(
    include_top: bool = True,
    include_preprocessing: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    drop_path_rate: float = 0.0,
    layer_scale_init_value: float | None = 1e-6,
    head_init_scale: float = 1.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> keras.Model:
    """Builds isotropic ConvNeXt-L: 305.9 million parameters, 59.7 billion multiply-adds at 224x224.

    Blocks (36,), channels (1024,), patches of 16 pixels. Source: "A ConvNet
    for the 2020s", table 2. See `keras_convnext.ConvNeXt` for the arguments and the errors.

    Args:
        include_top: Whether it ends in a classifier.
        include_preprocessing: Whether it takes values from 0 to 255 and normalizes them.
        weights: `None`, `"imagenet"`, the tag or name of a published checkpoint, or a file.
        input_tensor: Keras tensor to build on.
        input_shape: Shape of one image.
        pooling: Without the top, `"avg"`, `"max"` or `None`.
        classes: Classes of the classifier. Defaults to those of `weights`, or 1000.
        classifier_activation: Activation of the classifier; `None` gives logits.
        name: Name of the model. Defaults to `"convnext_isotropic_large"`.
        drop_path_rate: Stochastic depth of the last block, in [0, 1).
        layer_scale_init_value: Initial value of layer scale; `None` for none.
        head_init_scale: Factor on the classifier's initial weights.
        mean: Mean of each channel, on a scale of 0 to 1. Defaults to that of `weights`.
        std: Standard deviation of each channel, likewise.

    Returns:
        A functional `keras.Model` from `(batch, height, width, 3)` to `(batch, classes)`.

    Example:
        >>> model = keras_convnext.ConvNeXtIsotropicLarge(classes=10, drop_path_rate=0.1)
    """
    return create_model("convnext_isotropic_large", **locals())
