"""Recognizes networks that this package does not have, by the names of their weights.

The error about a file of another network should name that network. The names are those of the
networks of timm 1.0, transformers 5, torchvision 0.28 and the projects' own code.
"""

import re
from collections.abc import Iterable, Mapping

# Patterns of names, all of which must be found; the first row that matches is taken.
_OTHER_NETWORKS = (
    (
        "the ConvNeXt of DINOv3 as transformers has it",
        (r"stages\.\d+\.downsample_layers\.\d", r"layers\.\d+\.depthwise_conv\."),
    ),
    ("a Swin Transformer", (r"relative_position_bias_table|attn\.logit_scale",)),
    (
        "a Vision Transformer",
        (r"cls_token|class_token|class_embedding", r"pos_embed|position_embedding"),
    ),
    ("a ResNet", (r"(^|\.)layer1\.0\.conv1\.weight",)),
    ("a ResNet", (r"embedder\.embedder\.convolution\.weight",)),
    ("a ResNet", (r"conv2_block1_1_conv",)),
    ("an EfficientNet or a MobileNet", (r"(^|\.)conv_stem\.|_conv_stem\.|block1a_dwconv",)),
)

# Networks related to ConvNeXt; their names without the prefix before them.
_RELATIVES = (
    (
        "a ConvNeXt V2: its blocks hold GRN, global response normalization, and no layer scale",
        (r"\.grn\.",),
    ),
    ("the ConvNeXt of DINOv3, whose last norm stands there twice", (r"^norms\.\d+\.",)),
    (
        "the backbone of a detector or of a segmentation network, with a norm of its own for each "
        "stage's output",
        (r"^norm[0-3]\.|^hidden_states_norms\.",),
    ),
    (
        "one of timm's ConvNeXts with overlapping convolutions in the stem (their names end in "
        "_ols)",
        (r"^stem\.[23]\.weight$", r"^stages\.0\.blocks\.0\.conv_dw\."),
    ),
    (
        "one of timm's ConvNeXts with the last norm before the pooling (their names end in _hnf)",
        (r"^norm_pre\.",),
    ),
    (
        "one of timm's ConvNeXts with a hidden layer in the classifier (convnext_large_mlp)",
        (r"^head\.pre_logits\.",),
    ),
    (
        "a quantized model, which keras.saving.load_model loads",
        (r"^(stages_.*/pointwise_conv_\d|head)/2$",),
    ),
)

# timm's networks that differ in ways no weight shows: their norms' epsilon is 1e-5, and the test
# networks have another activation. By depths, channels and, for the small ones, classes.
_OTHER_EPSILON: dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[str, int | None]] = {
    ((3, 4, 30, 3), (384, 768, 1536, 3072)): ("convnext_xxlarge", None),
    ((1, 2, 4, 2), (24, 32, 48, 64)): ("test_convnext", 1000),
    ((1, 1, 1, 1), (32, 64, 96, 128)): ("test_convnext2", 1000),
}


def other_network(names: Iterable[str]) -> str | None:
    """Returns the network, unrelated to ConvNeXt, that has weights of these names, or `None`."""
    return _first(_OTHER_NETWORKS, list(names))


def relative(names: Mapping[str, str]) -> str | None:
    """Returns the relative of ConvNeXt that has weights of these names, or `None`.

    Args:
        names: The name of every weight without a prefix, to its whole name in the file.
    """
    if any("visual.trunk." in name for name in names.values()):
        return "the image tower of a CLIP model of OpenCLIP"
    norms_have_biases = any(name.endswith("norm.bias") for name in names)
    if "stages.0.blocks.0.norm.weight" in names and not norms_have_biases:
        return "one of timm's ConvNeXts whose norms have no bias (their names hold _rms)"
    return _first(_RELATIVES, list(names))


def of_another_epsilon(
    depths: tuple[int, ...], dims: tuple[int, ...], classes: int | None
) -> str | None:
    """Returns the network of timm of this size whose norms have another epsilon, or `None`."""
    if (depths, dims) not in _OTHER_EPSILON:
        return None
    name, only_classes = _OTHER_EPSILON[depths, dims]
    return name if only_classes in (None, classes) else None


def _first(rows, names):
    for what, patterns in rows:
        if all(any(re.search(pattern, name) for name in names) for pattern in patterns):
            return what
    return None
