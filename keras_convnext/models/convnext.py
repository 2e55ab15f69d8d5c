"""ConvNeXt as a functional Keras model: the general builder and the networks of the paper."""

import os
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_convnext.catalog.architectures import VARIANTS, get_variant
from keras_convnext.catalog.checkpoints import CHECKPOINTS, full_name, list_weights
from keras_convnext.errors import WeightsError
from keras_convnext.layers import Block, Downsampling, Stem
from keras_convnext.layers.initializers import LAYER_NORM_EPSILON, weight_initializer
from keras_convnext.models.inputs import channels_last, functional_model, image_input, normalize
from keras_convnext.models.numbers import image_shape, integer, integers, real
from keras_convnext.weights.fetch import fetch
from keras_convnext.weights.load import assign
from keras_convnext.weights.weight_file import StoredWeights


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
        stem_norm: Whether a LayerNorm follows the stem's convolution; the isotropic networks, of
            one stage and patches of 16 pixels, go without (section 3.3).
        include_top: Whether the network ends in a classifier: pooling, LayerNorm, dense layer.
        include_preprocessing: Whether the model takes raw RGB values from 0 to 255 and normalises
            them itself, with the mean and deviation of ImageNet.
        weights: `None` for random weights; else the name of a published checkpoint, a file, or
            whatever else `keras_convnext.load_weights` takes.
        input_tensor: Keras tensor to build on: an `Input`, or another model's output. The names of
            layers in one functional model must differ, so a second network in it has to be called
            as a layer: `ConvNeXtTiny(include_top=False, name="second")(tensor)`.
        input_shape: Shape of one image, such as `(224, 224, 3)`; `(None, None, 3)` takes any height
            and width. Defaults to any height and width without the top; with it to the size that a
            published checkpoint was trained with last, else to 224. The channels default to those
            of `weights`, or 3.
        pooling: Without the top: `"avg"` or `"max"` for vectors of shape `(batch, dims[-1])`,
            `None` for the feature map `(batch, height // 32, width // 32, dims[-1])`. Either ends
            in the final LayerNorm.
        classes: Classes of the classifier. Defaults to those of `weights`, or 1000. Where it
            differs from theirs the classifier starts at random, which is logged.
        classifier_activation: Activation of the classifier; `None` gives logits.
        name: Name of the model. Defaults to `"convnext"`.
        drop_path_rate: Stochastic depth of the last block, in [0, 1). It grows linearly over all
            blocks, from 0 for the first.
        layer_scale_init_value: Initial value of layer scale; `None` leaves layer scale out.
        head_init_scale: Factor on the classifier's initial weights; 0.001 to fine-tune (table 6).

    Returns:
        A `keras.Model`. With the top it gives `(batch, classes)`. Its layers are called `stem`,
        `stages_{i}_downsampling`, `stages_{i}_blocks_{j}`, `pool`, `head_norm` and `head`, and
        these names are kept from release to release.

    Raises:
        ValueError: If an argument does not fit; the message says which, and what is allowed.
        WeightsError: If the weights cannot be had, or are not this network's.

    Example:
        >>> model = keras_convnext.ConvNeXt((2, 2, 6, 2), (40, 80, 160, 320), classes=10)
        >>> model.predict(images)  # (batch, 224, 224, 3), values from 0 to 255
    """
    stored = None if weights is None else StoredWeights(fetch(weights))
    if classes is None:
        classes = (stored and stored.classes) or 1000
    depths, dims = integers("depths", depths), integers("dims", dims)
    patch_size, kernel_size = integer("patch_size", patch_size), integer("kernel_size", kernel_size)
    classes = integer("classes", classes)
    drop_path_rate = real("drop_path_rate", drop_path_rate)
    head_init_scale = real("head_init_scale", head_init_scale)
    if layer_scale_init_value is not None:
        layer_scale_init_value = real("layer_scale_init_value", layer_scale_init_value)
    _check_arguments(depths, dims, pooling, classes, drop_path_rate, layer_scale_init_value)
    image = image_input(
        input_tensor,
        None if input_shape is None else image_shape(input_shape),
        default_size=_trained_size(weights) if include_top else None,
        default_channels=(stored and stored.channels) or 3,
        smallest_size=patch_size * 2 ** (len(depths) - 1),
    )
    x = channels_last(image)
    if include_preprocessing:
        x = normalize(x)
    x = Stem(dims[0], patch_size, use_norm=stem_norm, name="stem")(x)
    x = _stages(x, depths, dims, kernel_size, drop_path_rate, layer_scale_init_value)
    if include_top:
        x = _norm(_pool("avg")(x))
        x = _classifier(classes, classifier_activation, head_init_scale)(x)
    else:
        x = _norm(_pool(pooling)(x)) if pooling else features_out(_norm(x))

    # Recomputed as a whole, a network would need as much memory as before: its layers are.
    with keras.RematScope(mode=None):
        model = functional_model(image, x, name or "convnext")
    if stored is not None:
        assign(model, stored)
    return model


def create_model(name: str, /, **kwargs) -> keras.Model:
    """Builds a model of `list_models()` by its name.

    Args:
        name: Name of the model, such as `"convnext_tiny"`.
        **kwargs: Arguments of `ConvNeXt` from `patch_size` on, in place of the named model's. As
            `weights` the tag of a published checkpoint is enough, such as `"fb_in22k"`, and
            `"imagenet"` means the one that `keras.applications` has: trained on ImageNet-1K for
            tiny and small; on ImageNet-22K, then 1K, for base, large and xlarge.

    Raises:
        ValueError: If there is no such model; the message names the nearest.
        WeightsError: If `weights` names the checkpoint of another model.

    Example:
        >>> model = keras_convnext.create_model("convnext_small", classes=10)
    """
    variant = get_variant(name)
    own = {
        "name": name,
        "patch_size": variant.patch_size,
        "stem_norm": variant.stem_norm,
        "layer_scale_init_value": variant.layer_scale_init_value,
    }
    arguments = {**own, **kwargs}
    if isinstance(arguments.get("weights"), str):
        arguments["weights"] = full_name(arguments["weights"], name)
        checkpoint = CHECKPOINTS.get(arguments["weights"])
        if checkpoint is not None and checkpoint.model != name:
            raise WeightsError(
                f"{checkpoint.name} holds the weights of {checkpoint.model}, not of {name}. "
                f"Those of {name} are: {', '.join(list_weights(name))}."
            )
    return ConvNeXt(variant.depths, variant.dims, **arguments)


def _constructor(variant_name: str, function_name: str, title: str):
    """Returns the function that builds one network of the paper: one signature, written once."""
    variant = VARIANTS[variant_name]

    def constructor(
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
        layer_scale_init_value: float | None = variant.layer_scale_init_value,
        head_init_scale: float = 1.0,
    ) -> keras.Model:
        return create_model(
            variant_name,
            include_top=include_top,
            include_preprocessing=include_preprocessing,
            weights=weights,
            input_tensor=input_tensor,
            input_shape=input_shape,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            name=name or variant_name,
            drop_path_rate=drop_path_rate,
            layer_scale_init_value=layer_scale_init_value,
            head_init_scale=head_init_scale,
        )

    constructor.__name__ = constructor.__qualname__ = function_name
    table = 1 if variant.stem_norm else 2
    constructor.__doc__ = f"""Builds {title}.

    {variant.parameters / 1e6:.1f} million parameters with 1000 classes, {variant.gmacs_224:.1f}
    billion multiply-adds for a 224x224 image ("A ConvNet for the 2020s", table {table}): blocks
    {variant.depths}, channels {variant.dims}, patches of {variant.patch_size} pixels. Takes the
    arguments of `keras_convnext.ConvNeXt` from `include_top` on; see there for what they mean and
    what is raised.

    Returns:
        A functional `keras.Model` from `(batch, height, width, 3)` to `(batch, classes)`.

    Example:
        >>> model = keras_convnext.{function_name}(classes=10, drop_path_rate=0.1)
    """
    return constructor


ConvNeXtTiny = _constructor("convnext_tiny", "ConvNeXtTiny", "ConvNeXt-T")
ConvNeXtSmall = _constructor("convnext_small", "ConvNeXtSmall", "ConvNeXt-S")
ConvNeXtBase = _constructor("convnext_base", "ConvNeXtBase", "ConvNeXt-B")
ConvNeXtLarge = _constructor("convnext_large", "ConvNeXtLarge", "ConvNeXt-L")
ConvNeXtXLarge = _constructor("convnext_xlarge", "ConvNeXtXLarge", "ConvNeXt-XL")
ConvNeXtIsotropicSmall = _constructor(
    "convnext_isotropic_small", "ConvNeXtIsotropicSmall", "the isotropic ConvNeXt-S"
)
ConvNeXtIsotropicBase = _constructor(
    "convnext_isotropic_base", "ConvNeXtIsotropicBase", "the isotropic ConvNeXt-B"
)
ConvNeXtIsotropicLarge = _constructor(
    "convnext_isotropic_large", "ConvNeXtIsotropicLarge", "the isotropic ConvNeXt-L"
)


def drop_path_rates(rate: float, blocks: int) -> list[float]:
    """Returns each block's stochastic depth: linear over all blocks, from 0 to `rate` inclusive.

    The official code's rule; other ports divide by the number of blocks and never reach `rate`.
    """
    return [rate * block / max(blocks - 1, 1) for block in range(blocks)]


def features_out(x):
    """Returns a feature map in the data format Keras is configured for; inside it is NHWC."""
    if keras.config.image_data_format() == "channels_first":
        return layers.Permute((3, 1, 2))(x)
    return x


def _trained_size(weights):
    checkpoint = CHECKPOINTS.get(str(weights))
    return 224 if checkpoint is None else checkpoint.image_size


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


def _check_arguments(depths, dims, pooling, classes, drop_path_rate, layer_scale_init_value):
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
    if pooling not in (None, "avg", "max"):
        raise ValueError(f"`pooling` must be None, 'avg' or 'max'. Received: pooling={pooling!r}.")
    if classes < 1:
        raise ValueError(f"`classes` must be at least 1. Received: classes={classes}.")
    if not 0 <= drop_path_rate < 1:
        raise ValueError(
            f"`drop_path_rate` is the last block's probability of being dropped and must lie in "
            f"[0, 1). Received: drop_path_rate={drop_path_rate}."
        )
    if layer_scale_init_value is not None and not layer_scale_init_value > 0:
        raise ValueError(
            f"`layer_scale_init_value` must be above 0, since a branch scaled by 0 can never start "
            f"to learn; pass None for a network without layer scale. "
            f"Received: layer_scale_init_value={layer_scale_init_value}."
        )
