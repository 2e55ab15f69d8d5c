"""Every ConvNeXt architecture as one table, with the figures published for it.

Importing this module imports no backend, so recipes and the command line can check a model's name
without the seconds that TensorFlow, JAX or PyTorch take to start.
"""

import difflib
from dataclasses import dataclass

from keras_convnext.errors import UserError


@dataclass(frozen=True)
class Variant:
    """One row of the table: a network of the paper.

    Attributes:
        name: The name `create_model` takes, such as `"convnext_tiny"`.
        depths: Blocks in each stage, B in the paper (section 3).
        dims: Channels of each stage, C in the paper (section 3).
        parameters: Parameters with the 1000 classes of ImageNet-1K.
        parameters_22k: Parameters with the 21841 classes of ImageNet-22K.
        gmacs_224: Billions of multiply-adds for one 224x224 image (the paper's "FLOPs").
        gmacs_384: The same for one 384x384 image.
        patch_size: Side of the stem's patches, in pixels.
        stem_norm: Whether a LayerNorm follows the stem's convolution.
        layer_scale_init_value: Initial value of layer scale; `None` for a network without it.
    """

    name: str
    depths: tuple[int, ...]
    dims: tuple[int, ...]
    parameters: int
    parameters_22k: int
    gmacs_224: float
    gmacs_384: float
    patch_size: int = 4
    stem_norm: bool = True
    layer_scale_init_value: float | None = 1e-6


# Paper section 3 (depths and dims) and tables 1 and 12 (parameters and FLOPs, there rounded). The
# isotropic networks, of section 3.3 and table 2, have one stage at a sixteenth of the image's size,
# as ViT has; layer scale is in the large one only, as in the official commands (TRAINING.md).
VARIANTS: dict[str, Variant] = {
    row.name: row
    for row in (
        Variant(
            "convnext_tiny",
            (3, 3, 9, 3),
            (96, 192, 384, 768),
            28_589_128,
            44_615_857,
            4.456,
            13.092,
        ),
        Variant(
            "convnext_small",
            (3, 3, 27, 3),
            (96, 192, 384, 768),
            50_223_688,
            66_250_417,
            8.684,
            25.518,
        ),
        Variant(
            "convnext_base",
            (3, 3, 27, 3),
            (128, 256, 512, 1024),
            88_591_464,
            109_953_489,
            15.355,
            45.122,
        ),
        Variant(
            "convnext_large",
            (3, 3, 27, 3),
            (192, 384, 768, 1536),
            197_767_336,
            229_799_953,
            34.361,
            100.978,
        ),
        Variant(
            "convnext_xlarge",
            (3, 3, 27, 3),
            (256, 512, 1024, 2048),
            350_196_968,
            392_900_177,
            60.921,
            179.029,
        ),
        Variant(
            "convnext_isotropic_small",
            (18,),
            (384,),
            22_308_712,
            30_332_497,
            4.286,
            12.596,
            patch_size=16,
            stem_norm=False,
            layer_scale_init_value=None,
        ),
        Variant(
            "convnext_isotropic_base",
            (18,),
            (768,),
            87_083_752,
            103_110_481,
            16.896,
            49.653,
            patch_size=16,
            stem_norm=False,
            layer_scale_init_value=None,
        ),
        Variant(
            "convnext_isotropic_large",
            (36,),
            (1024,),
            305_942_504,
            327_304_529,
            59.699,
            175.441,
            patch_size=16,
            stem_norm=False,
        ),
    )
}


def list_models() -> list[str]:
    """Returns the names `create_model` takes: the five sizes, then the three isotropic networks.

    Example:
        >>> keras_convnext.list_models()[0]
        'convnext_tiny'
    """
    return list(VARIANTS)


def get_variant(name: str) -> Variant:
    """Returns the row called `name`.

    Raises:
        UserError: If no row has that name; the message lists the names and the nearest one.
    """
    if name in VARIANTS:
        return VARIANTS[name]
    nearest = difflib.get_close_matches(str(name).lower(), VARIANTS, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    raise UserError(
        f"There is no model called {name!r}.{hint} The models are: {', '.join(VARIANTS)}."
    )
