"""Names and layouts of ConvNeXt weights in other projects: one key map for both directions.

Our own name of a weight is its path in the Keras model, such as
`stages_2_blocks_5/pointwise_conv_1/kernel`. A format maps it to the name in another project, where
`{s}` stands for the stage and `{b}` for the block, both from 0.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Literal

import numpy as np

PYTORCH = {"kernel": ".weight", "gamma": ".weight", "beta": ".bias", "bias": ".bias"}
KERAS_PLACES = {"kernel": "/0", "gamma": "/0", "beta": "/1", "bias": "/1"}
OWN = {weight: f"/{weight}" for weight in PYTORCH}
BLOCK_LAYERS = ("depthwise_conv", "norm", "pointwise_conv_1", "pointwise_conv_2", "layer_scale")
_NUMBERED = re.compile(r"stages_(\d+)_(downsampling|blocks)_?(\d*)/")


@dataclasses.dataclass(frozen=True)
class Format:
    """The names and the layout of one project.

    Attributes:
        name: Name of the format.
        layers: Our name of a layer, or the whole path of a weight, to theirs.
        suffixes: Our name of a weight in its layer to the end of theirs.
        layout: `"pytorch"` has a kernel's channels first and its output before its input; `"keras"`
            is ours.
        layer_scale_shape: Shape of layer scale's vector.
        isotropic: Whether its networks have one stage, which its names do not number.
        aliases: Patterns of other spellings of a name, with the spelling used here.
        own_names: Pattern that the names of a network's weights begin with, if weights of other
            layers may have the same prefix; else all are the network's.
    """

    name: str
    layers: Mapping[str, str]
    suffixes: Mapping[str, str]
    layout: Literal["pytorch", "keras"] = "pytorch"
    layer_scale_shape: tuple[int, ...] = (-1,)
    isotropic: bool = False
    aliases: tuple[tuple[str, str], ...] = ()
    own_names: str = ""

    def name_of(self, path: str) -> str | None:
        """Returns the format's name of the weight with our path, or `None` if it has none."""
        generic, numbers = _generic(path)
        if self.isotropic and numbers.get("s", 0) > 0:
            return None
        if generic in self.layers:
            return self.layers[generic].format(**numbers)
        layer, _, weight = generic.rpartition("/")
        if layer not in self.layers or weight not in self.suffixes:
            return None
        return self.layers[layer].format(**numbers) + self.suffixes[weight]

    def normalize_name(self, name: str) -> str:
        """Returns a name of the format in the spelling of `name_of`."""
        for pattern, replacement in self.aliases:
            name = re.sub(pattern, replacement, name, count=1)
        return name

    def is_own(self, name: str) -> bool:
        """Whether a weight of this normalized name can only be the network's.

        A name below the classifier's that is not one of its weights belongs to another head that
        replaced it.
        """
        if not re.match(self.own_names, name):
            return False
        head = self.layers.get("head")
        if head is None:
            return True
        return not name.startswith((f"{head}.", f"{head}/")) or self._is_head(name)

    def _is_head(self, name):
        return name in (self.name_of("head/kernel"), self.name_of("head/bias"))

    def to_keras(self, path: str, array: np.ndarray) -> np.ndarray:
        """Returns an array of the format, laid out as ours of the same path."""
        if path.endswith("layer_scale/gamma"):
            return array.reshape(-1)
        if not path.endswith("/kernel"):
            return array
        if self.layout == "keras":
            # A depthwise convolution stored as a grouped one has its last two axes swapped.
            grouped = array.ndim == 4 and array.shape[2] == 1
            swapped = grouped and path.endswith("depthwise_conv/kernel")
            return array.swapaxes(2, 3) if swapped else array
        if path.endswith("depthwise_conv/kernel"):
            return array.transpose(2, 3, 0, 1) if array.ndim == 4 else array
        if path.endswith("/conv/kernel"):
            return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
        if array.shape[2:] == (1, 1):  # timm's dense layers may be 1x1 convolutions
            array = array.reshape(array.shape[:2])
        return array.T

    def from_keras(self, path: str, array: np.ndarray) -> np.ndarray:
        """Returns one of our arrays as the format lays it out."""
        if path.endswith("layer_scale/gamma"):
            return array.reshape(self.layer_scale_shape)
        if self.layout == "keras" or not path.endswith("/kernel"):
            return array
        if path.endswith("depthwise_conv/kernel"):
            return array.transpose(2, 3, 0, 1)
        return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def _generic(path):
    """Returns the path without its numbers, and the numbers by the templates' keys."""
    match = _NUMBERED.match(path)
    if match is None:
        return path, {}
    stage = int(match[1])
    # torchvision numbers downsamplings and stages in one sequence; keras.applications starts at 0.
    numbers = {"s": stage, "s_1": stage - 1, "even": 2 * stage, "odd": 2 * stage + 1, "b": match[3]}
    return f"{match[2]}/{path[match.end() :]}", numbers


def _blocks(prefix: str, *names: str) -> dict[str, str]:
    """Returns the names of `BLOCK_LAYERS`; the last is a vector, not a layer."""
    keys = [f"blocks/{layer}" for layer in BLOCK_LAYERS[:-1]] + ["blocks/layer_scale/gamma"]
    return {key: f"{prefix}.{name}" for key, name in zip(keys, names, strict=True)}


_OFFICIAL_BLOCK = ("dwconv", "norm", "pwconv1", "pwconv2", "gamma")
OFFICIAL = Format(
    "official",
    {
        "stem/conv": "downsample_layers.0.0",
        "stem/norm": "downsample_layers.0.1",
        "downsampling/norm": "downsample_layers.{s}.0",
        "downsampling/conv": "downsample_layers.{s}.1",
        **_blocks("stages.{s}.{b}", *_OFFICIAL_BLOCK),
        "head_norm": "norm",
        "head": "head",
    },
    PYTORCH,
)
OFFICIAL_ISOTROPIC = Format(
    "official isotropic",
    {
        "stem/conv": "stem",
        **_blocks("blocks.{b}", *_OFFICIAL_BLOCK),
        "head_norm": "norm",
        "head": "head",
    },
    PYTORCH,
    isotropic=True,
)
TIMM = Format(
    "timm",
    {
        "stem/conv": "stem.0",
        "stem/norm": "stem.1",
        "downsampling/norm": "stages.{s}.downsample.0",
        "downsampling/conv": "stages.{s}.downsample.1",
        **_blocks("stages.{s}.blocks.{b}", "conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma"),
        "head_norm": "head.norm",
        "head": "head.fc",
    },
    PYTORCH,
)
_TRANSFORMERS_LAYERS = {
    "stem/conv": "embeddings.patch_embeddings",
    "stem/norm": "embeddings.layernorm",
    "downsampling/norm": "encoder.stages.{s}.downsampling_layer.0",
    "downsampling/conv": "encoder.stages.{s}.downsampling_layer.1",
    **_blocks(
        "encoder.stages.{s}.layers.{b}",
        *("dwconv", "layernorm", "pwconv1", "pwconv2", "layer_scale_parameter"),
    ),
    "head_norm": "layernorm",
}
TRANSFORMERS = Format(
    "transformers",
    {key: f"convnext.{name}" for key, name in _TRANSFORMERS_LAYERS.items()}
    | {"head": "classifier"},
    PYTORCH,
    own_names=r"(convnext|classifier)\.",
)
TRANSFORMERS_BACKBONE = Format("transformers", _TRANSFORMERS_LAYERS, PYTORCH)
TORCHVISION = Format(
    "torchvision",
    {
        "stem/conv": "features.0.0",
        "stem/norm": "features.0.1",
        "downsampling/norm": "features.{even}.0",
        "downsampling/conv": "features.{even}.1",
        **_blocks("features.{odd}.{b}", "block.0", "block.2", "block.3", "block.5", "layer_scale"),
        "head_norm": "classifier.0",
        "head": "classifier.2",
    },
    PYTORCH,
    layer_scale_shape=(-1, 1, 1),
)
KERAS_APPLICATIONS = Format(
    "keras.applications",
    {
        "stem/conv": "stem_conv",
        "stem/norm": "stem_layernorm",
        "downsampling/norm": "downsampling_layernorm_{s_1}",
        "downsampling/conv": "downsampling_conv_{s_1}",
        "blocks/depthwise_conv": "stage_{s}_block_{b}_depthwise_conv",
        "blocks/norm": "stage_{s}_block_{b}_layernorm",
        "blocks/pointwise_conv_1": "stage_{s}_block_{b}_pointwise_conv_1",
        "blocks/pointwise_conv_2": "stage_{s}_block_{b}_pointwise_conv_2",
        "blocks/layer_scale": "stage_{s}_block_{b}_layer_scale",
        "head_norm": "head_layernorm",
        "head": "head_dense",
    },
    KERAS_PLACES,
    layout="keras",
    aliases=(
        # The model's name, and in files of Keras 3 that of the Sequential around the layer.
        (r"^.*?(?=(stem|head|stage_\d+|downsampling)_(conv|layernorm|dense|block_\d+_[a-z]))", ""),
        # Without the top the last norm has no name of its own there.
        (r"^(.*/)?layer_normalization(_\d+)?/", "head_layernorm/"),
    ),
    own_names=r"stem_|stage_\d|downsampling_|head_",
)
_OWN_NAMES = r"(stem|stages_\d+_(downsampling|blocks_\d+)|head_norm|head)/"
_OWN_LAYERS = {
    "stem/conv": "stem/conv",
    "stem/norm": "stem/norm",
    "downsampling/norm": "stages_{s}_downsampling/norm",
    "downsampling/conv": "stages_{s}_downsampling/conv",
    **{f"blocks/{layer}": f"stages_{{s}}_blocks_{{b}}/{layer}" for layer in BLOCK_LAYERS},
    "head_norm": "head_norm",
    "head": "head",
}
SAFETENSORS = Format("safetensors", _OWN_LAYERS, OWN, layout="keras", own_names=_OWN_NAMES)
KERAS = Format("keras", _OWN_LAYERS, KERAS_PLACES, layout="keras", own_names=_OWN_NAMES)

FORMATS = (
    OFFICIAL,
    OFFICIAL_ISOTROPIC,
    TIMM,
    TRANSFORMERS,
    TRANSFORMERS_BACKBONE,
    TORCHVISION,
    KERAS_APPLICATIONS,
    SAFETENSORS,
    KERAS,
)
