"""Every published ConvNeXt checkpoint as one table. Importing this module imports no backend."""

import dataclasses
import difflib
from typing import TypeVar

from keras_convnext.catalog.preprocessing import OFFICIAL, Preprocessing, warps
from keras_convnext.errors import WeightsError

Source = TypeVar("Source")

OFFICIAL_FILES = "https://dl.fbaipublicfiles.com/convnext/"
# The checkpoint that `weights="imagenet"` means for each network: that of keras.applications, and
# for the isotropic networks, which keras.applications lacks, their only one.
IMAGENET_TAGS = {
    "convnext_tiny": "fb_in1k",
    "convnext_small": "fb_in1k",
    "convnext_base": "fb_in22k_ft_in1k",
    "convnext_large": "fb_in22k_ft_in1k",
    "convnext_xlarge": "fb_in22k_ft_in1k",
    "convnext_isotropic_small": "fb_in1k",
    "convnext_isotropic_base": "fb_in1k",
    "convnext_isotropic_large": "fb_in1k",
}


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """One row of the table: a published checkpoint and how it was evaluated.

    Attributes:
        model: Name of the network, as `create_model` takes it.
        tag: Distinguishes the network's checkpoints; timm's tag if timm has the checkpoint.
        file: Name of the official file.
        classes: 1000 (ImageNet-1K) or 21841 (ImageNet-22K).
        image_size: Height and width it was trained last and evaluated with, in pixels.
        top_1: Published top-1 accuracy on ImageNet-1K in percent (official README); `None` for
            heads of ImageNet-22K and if none was published.
        hub: Repository on the Hugging Face Hub that holds it as safetensors, or `None`.
        top_1_timm: The same as timm measured it, at the same resolution, or `None`.
        preprocessing: How its images are resized, cropped and normalized.
        licence: Licence of the weights: that of the official repository.
    """

    model: str
    tag: str
    file: str
    classes: int
    image_size: int
    top_1: float | None
    hub: str | None = None
    top_1_timm: float | None = None
    preprocessing: Preprocessing = OFFICIAL
    licence: str = "MIT"

    @property
    def name(self) -> str:
        """The checkpoint's full name, such as `"convnext_tiny.fb_in1k"`."""
        return f"{self.model}.{self.tag}"

    def __str__(self) -> str:
        return self.name

    @property
    def url(self) -> str:
        """Address of the official file."""
        return OFFICIAL_FILES + self.file

    @property
    def crop_fraction(self) -> float:
        """The centre crop's share of the resized image at `image_size`."""
        return 1.0 if self.warp else self.preprocessing.crop_fraction

    @property
    def warp(self) -> bool:
        """Whether the whole image is resized to `image_size` instead of cropped."""
        return warps(self.image_size, self.image_size, self.preprocessing.warp_from)


def _of_timm(model, tag, file, classes, image_size, top_1, top_1_timm):
    """A row whose weights timm keeps on the Hub under the same name."""
    hub = f"timm/{model}.{tag}"
    return Checkpoint(model, tag, file, classes, image_size, top_1, hub, top_1_timm)


# Official README and TRAINING.md (files, accuracies); timm's results-imagenet.csv (its accuracies).
# The paper gives 79.7 for the isotropic small network where the README gives 78.7; the paper's
# table 2 stands here. The rows "_no_ema" hold the raw weights of the runs whose averaged ones are
# "fb_in1k": detection and segmentation start from them (appendix A.3).
CHECKPOINTS: dict[str, Checkpoint] = {
    row.name: row
    for row in (
        _of_timm(
            "convnext_tiny", "fb_in1k", "convnext_tiny_1k_224_ema.pth", 1000, 224, 82.1, 82.066
        ),
        _of_timm(
            "convnext_small", "fb_in1k", "convnext_small_1k_224_ema.pth", 1000, 224, 83.1, 83.144
        ),
        _of_timm(
            "convnext_base", "fb_in1k", "convnext_base_1k_224_ema.pth", 1000, 224, 83.8, 83.838
        ),
        _of_timm(
            "convnext_large", "fb_in1k", "convnext_large_1k_224_ema.pth", 1000, 224, 84.3, 84.304
        ),
        Checkpoint("convnext_base", "fb_in1k_384", "convnext_base_1k_384.pth", 1000, 384, 85.1),
        Checkpoint("convnext_large", "fb_in1k_384", "convnext_large_1k_384.pth", 1000, 384, 85.5),
        _of_timm("convnext_tiny", "fb_in22k", "convnext_tiny_22k_224.pth", 21841, 224, None, None),
        _of_timm(
            "convnext_small", "fb_in22k", "convnext_small_22k_224.pth", 21841, 224, None, None
        ),
        _of_timm("convnext_base", "fb_in22k", "convnext_base_22k_224.pth", 21841, 224, None, None),
        _of_timm(
            "convnext_large", "fb_in22k", "convnext_large_22k_224.pth", 21841, 224, None, None
        ),
        _of_timm(
            "convnext_xlarge", "fb_in22k", "convnext_xlarge_22k_224.pth", 21841, 224, None, None
        ),
        _of_timm(
            "convnext_tiny",
            "fb_in22k_ft_in1k",
            "convnext_tiny_22k_1k_224.pth",
            1000,
            224,
            82.9,
            82.9,
        ),
        _of_timm(
            "convnext_small",
            "fb_in22k_ft_in1k",
            "convnext_small_22k_1k_224.pth",
            1000,
            224,
            84.6,
            84.582,
        ),
        _of_timm(
            "convnext_base",
            "fb_in22k_ft_in1k",
            "convnext_base_22k_1k_224.pth",
            1000,
            224,
            85.8,
            85.814,
        ),
        _of_timm(
            "convnext_large",
            "fb_in22k_ft_in1k",
            "convnext_large_22k_1k_224.pth",
            1000,
            224,
            86.6,
            86.612,
        ),
        _of_timm(
            "convnext_xlarge",
            "fb_in22k_ft_in1k",
            "convnext_xlarge_22k_1k_224_ema.pth",
            1000,
            224,
            87.0,
            86.97,
        ),
        _of_timm(
            "convnext_tiny",
            "fb_in22k_ft_in1k_384",
            "convnext_tiny_22k_1k_384.pth",
            1000,
            384,
            84.1,
            84.098,
        ),
        _of_timm(
            "convnext_small",
            "fb_in22k_ft_in1k_384",
            "convnext_small_22k_1k_384.pth",
            1000,
            384,
            85.8,
            85.752,
        ),
        _of_timm(
            "convnext_base",
            "fb_in22k_ft_in1k_384",
            "convnext_base_22k_1k_384.pth",
            1000,
            384,
            86.8,
            86.826,
        ),
        _of_timm(
            "convnext_large",
            "fb_in22k_ft_in1k_384",
            "convnext_large_22k_1k_384.pth",
            1000,
            384,
            87.5,
            87.456,
        ),
        _of_timm(
            "convnext_xlarge",
            "fb_in22k_ft_in1k_384",
            "convnext_xlarge_22k_1k_384_ema.pth",
            1000,
            384,
            87.8,
            87.764,
        ),
        Checkpoint(
            "convnext_isotropic_small",
            "fb_in1k",
            "convnext_iso_small_1k_224_ema.pth",
            1000,
            224,
            79.7,
        ),
        Checkpoint(
            "convnext_isotropic_base",
            "fb_in1k",
            "convnext_iso_base_1k_224_ema.pth",
            1000,
            224,
            82.0,
        ),
        Checkpoint(
            "convnext_isotropic_large",
            "fb_in1k",
            "convnext_iso_large_1k_224_ema.pth",
            1000,
            224,
            82.6,
        ),
        Checkpoint("convnext_tiny", "fb_in1k_no_ema", "convnext_tiny_1k_224.pth", 1000, 224, None),
        Checkpoint(
            "convnext_small", "fb_in1k_no_ema", "convnext_small_1k_224.pth", 1000, 224, None
        ),
        Checkpoint("convnext_base", "fb_in1k_no_ema", "convnext_base_1k_224.pth", 1000, 224, None),
    )
}


def list_weights(model: str | None = None) -> list[str]:
    """Returns the names of the published checkpoints.

    Args:
        model: Name of a network, to list only its own.

    Example:
        >>> keras_convnext.list_weights("convnext_xlarge")[0]
        'convnext_xlarge.fb_in22k'
    """
    return [name for name, row in CHECKPOINTS.items() if model in (None, row.model)]


def full_name(weights: str, model: str) -> str:
    """Returns what `weights` means for one network: tags and `"imagenet"` become full names.

    Anything else is returned as it is.

    Example:
        >>> full_name("imagenet", "convnext_base")
        'convnext_base.fb_in22k_ft_in1k'
    """
    tag = IMAGENET_TAGS.get(model) if weights == "imagenet" else weights
    name = f"{model}.{tag}"
    return name if name in CHECKPOINTS else weights


def resolve(source: Source, model: str | None = None) -> "Source | Checkpoint":
    """Returns the published checkpoint that `source` names, or `source` itself if it names none.

    Args:
        source: What a user passes as weights: a name, a path or an address.
        model: Name of a network, whose checkpoints may be called by their tags; see `full_name`.

    Raises:
        WeightsError: If it is the checkpoint of another network than `model`.
    """
    if not isinstance(source, str):
        return source
    checkpoint = CHECKPOINTS.get(source if model is None else full_name(source, model))
    if checkpoint is None:
        return source
    if model not in (None, checkpoint.model):
        raise WeightsError(
            f"{checkpoint.name} holds the weights of {checkpoint.model}, not of {model}. "
            f"Those of {model} are: {', '.join(list_weights(model))}."
        )
    return checkpoint


def get_checkpoint(name: str) -> Checkpoint:
    """Returns the row of a published checkpoint.

    Raises:
        WeightsError: If there is no such checkpoint; the message names the nearest.
    """
    if name in CHECKPOINTS:
        return CHECKPOINTS[name]
    raise WeightsError(f"There is no published checkpoint called {name!r}. {suggestion(name)}")


def suggestion(name: str) -> str:
    """Returns a sentence that leads from a wrong name to the right one."""
    tag = "fb_in1k" if name == "imagenet" else name
    of_tag = [row.name for row in CHECKPOINTS.values() if row.tag == tag]
    of_model = list_weights(name.partition(".")[0])
    tags = {row.tag for row in CHECKPOINTS.values()}
    nearest = difflib.get_close_matches(name, [*CHECKPOINTS, *sorted(tags)], n=1)
    if of_tag:
        return f"With the network's name before it: {', '.join(of_tag)}."
    if of_model:
        return f"There are: {', '.join(of_model)}."
    if nearest:
        return f"Did you mean {nearest[0]!r}?"
    return "`keras-convnext weights list` shows all names."
