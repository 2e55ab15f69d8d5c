"""The registry's table: every network as one row.

Importing this module imports no backend, so recipes and the command line can check a model's name
without the seconds that TensorFlow, JAX or PyTorch take to start. `models.registry` builds a row.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_convnext.catalog.preprocessing import OFFICIAL, Preprocessing
from keras_convnext.errors import UserError

CONVNEXT = "keras_convnext.models.convnext:ConvNeXt"
RESNET50 = "keras_convnext.models.resnet:ResNet50"
# Arguments of the builder `CONVNEXT` that a recipe may set for a network of any size.
CONVNEXT_SETTINGS = (
    "patch_size",
    "stem_norm",
    "kernel_size",
    "drop_path_rate",
    "layer_scale_init_value",
    "head_init_scale",
)
# Formats of weight files, by the names in `weights.formats`.
CONVNEXT_FORMATS = (
    "official",
    "timm",
    "transformers",
    "torchvision",
    "keras.applications",
    "safetensors",
    "keras",
)
ISOTROPIC_FORMATS = ("official isotropic", "safetensors", "keras")


@dataclass(frozen=True)
class Network:
    """One row of the table: a network that can be built, trained and named in a recipe.

    Attributes:
        name: The name `create_model` and recipes take, such as `"convnext_tiny"`.
        arguments: The builder's arguments that make this network; a caller may override them.
        builder: The function that builds it, as `"module:function"`. It is imported when it is
            first used, since that imports a backend.
        settings: Arguments of the builder that are keys of a recipe's section `model`.
        parameters: Parameters with the 1000 classes of ImageNet-1K.
        parameters_22k: Parameters with the 21841 classes of ImageNet-22K.
        gmacs_224: Billions of multiply-adds for one 224x224 image (the paper's "FLOPs").
        gmacs_384: The same for one 384x384 image.
        image_size: Height and width that it is trained with, in pixels.
        downsampling: How many pixels of the image one pixel of the last feature map stands for, in
            each direction; for a ConvNeXt it follows from `arguments` and is not given.
        preprocessing: What it expects of its images, unless its weights expect otherwise.
        weight_formats: Formats of weight files it can be loaded from; empty if there are none.
        layer_decay: Whether its layers have an order that layer-wise learning rates can follow.
        licence: Licence of the weights that its authors published.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    builder: str = CONVNEXT
    settings: tuple[str, ...] = CONVNEXT_SETTINGS
    parameters: int = 0
    parameters_22k: int = 0
    gmacs_224: float = 0.0
    gmacs_384: float = 0.0
    image_size: int = 224
    downsampling: int | None = None
    preprocessing: Preprocessing = OFFICIAL
    weight_formats: tuple[str, ...] = CONVNEXT_FORMATS
    layer_decay: bool = True
    licence: str = "MIT"

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks in each stage of a ConvNeXt, B in the paper (section 3)."""
        return self.arguments["depths"]

    @property
    def dims(self) -> tuple[int, ...]:
        """Channels of each stage of a ConvNeXt, C in the paper (section 3)."""
        return self.arguments["dims"]

    @property
    def patch_size(self) -> int:
        """Side of the patches of a ConvNeXt's stem, in pixels."""
        return self.arguments.get("patch_size", 4)

    @property
    def stem_norm(self) -> bool:
        """Whether a LayerNorm follows the convolution of a ConvNeXt's stem."""
        return self.arguments.get("stem_norm", True)

    @property
    def takes_weights(self) -> bool:
        """Whether there are files of weights for it."""
        return bool(self.weight_formats)

    def smallest_image_size(self, patch_size: int | None = None) -> int:
        """Returns the side of the smallest image the network can take, in pixels.

        Args:
            patch_size: Side of the stem's patches, if it is not the row's.
        """
        if self.downsampling is not None:
            return self.downsampling
        return (patch_size or self.patch_size) * 2 ** (len(self.depths) - 1)


def custom_convnext(depths: tuple[int, ...], dims: tuple[int, ...]) -> Network:
    """Returns the row of a ConvNeXt that has no name, of any depths and channels."""
    return Network("convnext", {"depths": depths, "dims": dims})


def _convnext(name, depths, dims, parameters, parameters_22k, gmacs_224, gmacs_384) -> Network:
    figures = (parameters, parameters_22k, gmacs_224, gmacs_384)
    return Network(name, {"depths": depths, "dims": dims}, CONVNEXT, CONVNEXT_SETTINGS, *figures)


def _isotropic(name, depth, channels, layer_scale, *figures) -> Network:
    """A network of one stage at a sixteenth of the image's size."""
    arguments = {
        "depths": (depth,),
        "dims": (channels,),
        "patch_size": 16,
        "stem_norm": False,
        "layer_scale_init_value": layer_scale,
    }
    row = Network(name, arguments, CONVNEXT, CONVNEXT_SETTINGS, *figures)
    return dataclasses.replace(row, weight_formats=ISOTROPIC_FORMATS)


# Paper section 3 (depths and dims) and tables 1 and 12 (parameters and FLOPs, there rounded). The
# isotropic networks, of section 3.3 and table 2, have one stage at a sixteenth of the image's size,
# as ViT has; layer scale is in the large one only, as in the official commands (TRAINING.md).
# ResNet-50, which the paper compares with, is that of `keras.applications`.
NETWORKS: dict[str, Network] = {
    row.name: row
    for row in (
        _convnext(
            "convnext_tiny",
            (3, 3, 9, 3),
            (96, 192, 384, 768),
            28_589_128,
            44_615_857,
            4.456,
            13.092,
        ),
        _convnext(
            "convnext_small",
            (3, 3, 27, 3),
            (96, 192, 384, 768),
            50_223_688,
            66_250_417,
            8.684,
            25.518,
        ),
        _convnext(
            "convnext_base",
            (3, 3, 27, 3),
            (128, 256, 512, 1024),
            88_591_464,
            109_953_489,
            15.355,
            45.122,
        ),
        _convnext(
            "convnext_large",
            (3, 3, 27, 3),
            (192, 384, 768, 1536),
            197_767_336,
            229_799_953,
            34.361,
            100.978,
        ),
        _convnext(
            "convnext_xlarge",
            (3, 3, 27, 3),
            (256, 512, 1024, 2048),
            350_196_968,
            392_900_177,
            60.921,
            179.029,
        ),
        _isotropic(
            "convnext_isotropic_small", 18, 384, None, 22_308_712, 30_332_497, 4.286, 12.596
        ),
        _isotropic(
            "convnext_isotropic_base", 18, 768, None, 87_083_752, 103_110_481, 16.896, 49.653
        ),
        _isotropic(
            "convnext_isotropic_large", 36, 1024, 1e-6, 305_942_504, 327_304_529, 59.699, 175.441
        ),
        Network(
            "resnet50",
            builder=RESNET50,
            settings=(),
            downsampling=32,
            weight_formats=(),
            layer_decay=False,
        ),
    )
}
# The ConvNeXts among them: those that published checkpoints and benchmarks are about.
VARIANTS: dict[str, Network] = {
    name: row for name, row in NETWORKS.items() if row.builder == CONVNEXT
}


def list_models() -> list[str]:
    """Returns the names of the ConvNeXts: the five sizes, then the three isotropic networks.

    `create_model` takes one of them.

    Example:
        >>> keras_convnext.list_models()[0]
        'convnext_tiny'
    """
    return list(VARIANTS)


def get_network(name: str) -> Network:
    """Returns the row called `name`.

    Raises:
        UserError: If no row has that name; the message lists the names and the nearest one.
    """
    return _row(NETWORKS, name)


def get_variant(name: str) -> Network:
    """Returns the row of the ConvNeXt called `name`.

    Raises:
        UserError: If no ConvNeXt has that name; the message lists the names and the nearest one.
    """
    return _row(VARIANTS, name)


def _row(rows: dict[str, Network], name: str) -> Network:
    if name in rows:
        return rows[name]
    nearest = difflib.get_close_matches(str(name).lower(), rows, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    raise UserError(f"There is no model called {name!r}.{hint} The models are: {', '.join(rows)}.")
