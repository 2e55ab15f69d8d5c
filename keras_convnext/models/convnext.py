"""The builder of ConvNeXts of any size, as functional Keras models."""

import inspect
import os
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_convnext.catalog.checkpoints import resolve
from keras_convnext.catalog.preprocessing import OFFICIAL
from keras_convnext.layers import Block, Downsampling, Stem
from keras_convnext.layers.initializers import LAYER_NORM_EPSILON, weight_initializer
from keras_convnext.models.inputs import (
    channels_last,
    check_image,
    check_normalization,
    functional_model,
    image_input,
    normalize,
    statistics,
)
from keras_convnext.models.numbers import image_shape, integer, integers, real
from keras_convnext.weights.load import assign
from keras_convnext.weights.weight_file import WeightFile, open_weights

DEFAULT_CLASSES, DEFAULT_CHANNELS, DEFAULT_SIZE = 1000, 3, 224


def ConvNeXt(
    depths: Sequence[int],
    dims: Sequence[int],
    patch_size: int = 4,
    kernel_size: int = 7,
    stem_norm: bool = True,
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
    """Builds a ConvNeXt of any size as a functional model.

    Source: "A ConvNet for the 2020s", section 3; initial values from appendix A.1 and the official
    code (every kernel normal with deviation 0.02, every bias 0). The arguments from `include_top`
    to `name` are those of `keras.applications`.

    Args:
        depths: Blocks in each stage.
        dims: Channels of each stage; as many as `depths`.
        patch_size: Side of the stem's patches, in pixels. Defaults to 4.
        kernel_size: Odd side of the depthwise kernels. Defaults to 7.
        stem_norm: Whether a LayerNorm follows the stem's convolution; the isotropic networks, which
            have one stage and patches of 16 pixels, have none (section 3.3).
        include_top: Whether the network ends in a classifier: pooling, LayerNorm, dense layer.
        include_preprocessing: Whether the model takes raw values from 0 to 255 and normalizes them
            itself, by `mean` and `std`.
        weights: `None` for random weights; else the name of a published checkpoint, a file, or
            anything else `keras_convnext.load_weights` takes. All other arguments are checked
            before anything is downloaded.
        input_tensor: Keras tensor to build on: an `Input`, or another model's output. The names of
            layers in one functional model must differ, so a second network in it has to be called
            as a layer: `ConvNeXtTiny(include_top=False, name="second")(tensor)`.
        input_shape: Shape of one image, such as `(224, 224, 3)`; `(None, None, 3)` takes any height
            and width. Defaults to any height and width without the top; with it to the size that a
            published checkpoint was trained with last, else to 224. The channels default to those
            of `weights`, or 3. If they differ from the 3 of `weights`, the stem's kernel is adapted
            as timm does for `in_chans`, which is logged: summed over RGB for one channel; for n
            channels repeated and multiplied by 3 / n.
        pooling: Without the top: `"avg"` or `"max"` for vectors of shape `(batch, dims[-1])`,
            `None` for the feature map `(batch, height // 32, width // 32, dims[-1])`. Either ends
            in the final LayerNorm.
        classes: Classes of the classifier. Defaults to those of `weights`, or 1000. If it differs
            from theirs the classifier starts at random, which is logged.
        classifier_activation: Activation of the classifier; `None` gives logits.
        name: Name of the model. Defaults to `"convnext"`.
        drop_path_rate: Stochastic depth of the last block, in [0, 1). It grows linearly over all
            blocks, from 0 for the first.
        layer_scale_init_value: Initial value of layer scale; `None` leaves layer scale out.
        head_init_scale: Factor on the classifier's initial weights; 0.001 to fine-tune (table 6).
        mean: Mean of each channel that `include_preprocessing` subtracts, on a scale of 0 to 1.
            Defaults to that of `weights`, or of ImageNet. Images that are not RGB have no default:
            pass `mean` and `std`. For grey images the averages of ImageNet's, `[0.449]` and
            `[0.226]`, are the usual choice.
        std: Standard deviation of each channel, likewise.

    Returns:
        A `keras.Model`. With the top it gives `(batch, classes)`. Its layers are called `stem`,
        `stages_{i}_downsampling`, `stages_{i}_blocks_{j}`, `pool`, `head_norm` and `head`, and
        these names are kept from release to release.

    Raises:
        ValueError: If an argument does not fit; the message says which, and what is allowed.
        WeightsError: If the weights cannot be fetched or read, or are not this network's.

    Example:
        >>> model = keras_convnext.ConvNeXt((2, 2, 6, 2), (40, 80, 160, 320), classes=10)
        >>> model.predict(images)  # (batch, 224, 224, 3), values from 0 to 255
    """
    depths, dims = integers("depths", depths), integers("dims", dims)
    patch_size, kernel_size = integer("patch_size", patch_size), integer("kernel_size", kernel_size)
    classes = None if classes is None else integer("classes", classes)
    drop_path_rate = real("drop_path_rate", drop_path_rate)
    head_init_scale = real("head_init_scale", head_init_scale)
    if layer_scale_init_value is not None:
        layer_scale_init_value = real("layer_scale_init_value", layer_scale_init_value)
    _check_stages(depths, dims)
    shape = None if input_shape is None else image_shape(input_shape)
    check_options(
        include_preprocessing=include_preprocessing,
        input_tensor=input_tensor,
        input_shape=shape,
        pooling=pooling,
        classes=classes,
        drop_path_rate=drop_path_rate,
        layer_scale_init_value=layer_scale_init_value,
        mean=mean,
        std=std,
        smallest_size=patch_size * 2 ** (len(depths) - 1),
    )
    # The arguments are checked before the weights are opened, which may download them.
    weight_file = None if weights is None else open_weights(resolve(weights))
    image = image_input(
        input_tensor,
        shape,
        default_size=_trained_size(weight_file) if include_top else None,
        default_channels=(weight_file and weight_file.channels) or DEFAULT_CHANNELS,
    )
    x = channels_last(image)
    if include_preprocessing:
        normalization = _normalization(mean, std) or _normalization_of(weight_file)
        check_normalization(x.shape[-1], *normalization)
        x = normalize(x, *normalization)
    x = Stem(dims[0], patch_size, use_norm=stem_norm, name="stem")(x)
    x = _stages(x, depths, dims, kernel_size, drop_path_rate, layer_scale_init_value)
    if include_top:
        classes = classes or (weight_file and weight_file.classes) or DEFAULT_CLASSES
        x = _norm(_pool("avg")(x))
        x = _classifier(classes, classifier_activation, head_init_scale)(x)
    else:
        x = _norm(_pool(pooling)(x)) if pooling else features_out(_norm(x))

    # A scope around the whole network would recompute it as one piece, which saves no memory:
    # its layers are recomputed one by one.
    with keras.RematScope(mode=None):
        model = functional_model(image, x, name or "convnext")
    if weight_file is not None:
        assign(model, weight_file, adapt_stem=True)
    return model


def drop_path_rates(rate: float, blocks: int) -> list[float]:
    """Returns each block's stochastic depth: linear over all blocks, from 0 to `rate` inclusive.

    The official code's rule; other ports divide by the number of blocks and never reach `rate`.
    """
    return [rate * block / max(blocks - 1, 1) for block in range(blocks)]


def features_out(x):
    """Returns a feature map in the data format Keras is configured for, from NHWC."""
    if keras.config.image_data_format() == "channels_first":
        return layers.Permute((3, 1, 2))(x)
    return x


def _trained_size(weight_file: WeightFile | None) -> int:
    checkpoint = weight_file and weight_file.checkpoint
    return checkpoint.image_size if checkpoint else DEFAULT_SIZE


def _normalization(mean, std) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Returns the mean and the standard deviation that the caller chose; `None` for neither."""
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise ValueError(
            f"`mean` and `std` go together: pass both or neither. Received: mean={mean}, std={std}."
        )
    return statistics("mean", mean), statistics("std", std)


def _normalization_of(weight_file: WeightFile | None):
    """Returns the mean and the standard deviation that weights were trained with."""
    return (weight_file and weight_file.normalization) or (OFFICIAL.mean, OFFICIAL.std)


def _stages(x, depths, dims, kernel_size, drop_path_rate, layer_scale_init_value):
    rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
    for stage, (depth, channels) in enumerate(zip(depths, dims, strict=True)):
        if stage > 0:
            x = Downsampling(channels, name=f"stages_{stage}_downsampling")(x)
        for block in range(depth):
            x = Block(
                kernel_size=kernel_size,
                drop_path_rate=next(rates),
                layer_scale_init_value=layer_scale_init_value,
                name=f"stages_{stage}_blocks_{block}",
            )(x)
    return x


def _pool(kind: str):
    pools = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}
    return pools[kind](data_format="channels_last", name="pool")


def _norm(x):
    return layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, name="head_norm")(x)


def _classifier(classes, activation, init_scale):
    # In at least float32: class probabilities that are close together need its precision.
    dtype = keras.backend.result_type(keras.config.dtype_policy().variable_dtype, "float32")
    return layers.Dense(
        classes,
        activation=activation,
        kernel_initializer=weight_initializer(init_scale),
        dtype=dtype,
        name="head",
    )


def _check_stages(depths, dims):
    if not depths or len(depths) != len(dims):
        raise ValueError(
            f"`depths` and `dims` must give one number for each stage, so be equally long and not "
            f"empty. Received: depths={depths}, dims={dims}."
        )
    if min(*depths, *dims) < 1:
        raise ValueError(
            f"`depths` and `dims` must be at least 1 in every stage. "
            f"Received: depths={depths}, dims={dims}."
        )


def check_options(
    *,
    include_preprocessing=False,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=None,
    drop_path_rate=0.0,
    layer_scale_init_value=None,
    head_init_scale=1.0,
    mean=None,
    std=None,
    smallest_size=1,
    **others,
) -> int | None:
    """Checks the arguments of `ConvNeXt` that do not depend on its weights.

    Returns:
        The channels of the images, if the arguments say how many.

    Raises:
        ValueError: If one does not fit.
        TypeError: If `ConvNeXt` has no argument of a name in `others`.
    """
    inspect.signature(ConvNeXt).bind_partial(**others)
    if pooling not in (None, "avg", "max"):
        raise ValueError(f"`pooling` must be None, 'avg' or 'max'. Received: pooling={pooling!r}.")
    if classes is not None and integer("classes", classes) < 1:
        raise ValueError(f"`classes` must be at least 1. Received: classes={classes}.")
    if not 0 <= real("drop_path_rate", drop_path_rate) < 1:
        raise ValueError(
            f"`drop_path_rate` is the last block's probability of being dropped and must lie in "
            f"[0, 1). Received: drop_path_rate={drop_path_rate}."
        )
    real("head_init_scale", head_init_scale)
    if layer_scale_init_value is not None and not (
        real("layer_scale_init_value", layer_scale_init_value) > 0
    ):
        raise ValueError(
            f"`layer_scale_init_value` must be above 0, since a branch scaled by 0 can never start "
            f"to learn; pass None for a network without layer scale. "
            f"Received: layer_scale_init_value={layer_scale_init_value}."
        )
    shape = None if input_shape is None else image_shape(input_shape)
    channels = check_image(input_tensor, shape, smallest_size)
    normalization = _normalization(mean, std)
    if include_preprocessing and channels is not None:
        check_normalization(channels, *(normalization or (OFFICIAL.mean, OFFICIAL.std)))
    return channels
