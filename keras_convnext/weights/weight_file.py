"""The weights of a ConvNeXt in a file of any project, under our names and in our layout."""

import dataclasses
import itertools
import logging
import os
from pathlib import Path

import numpy as np

from keras_convnext.catalog.architectures import VARIANTS
from keras_convnext.catalog.checkpoints import Checkpoint
from keras_convnext.errors import WeightsError
from keras_convnext.weights.fetch import fetch
from keras_convnext.weights.formats import BLOCK_LAYERS, TIMM
from keras_convnext.weights.keras_config import normalization_in
from keras_convnext.weights.recognition import FIRST_KERNELS, recognize
from keras_convnext.weights.relatives import of_another_epsilon, relative
from keras_convnext.weights.tensor_files import TensorFile, open_tensor_file

logger = logging.getLogger(__name__)

STEM_KERNEL, FIRST_BLOCK_KERNEL = FIRST_KERNELS
LISTED = 5  # names in a sentence before it is cut short


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The network that a file's weights belong to, by the names of `ConvNeXt`'s arguments."""

    depths: tuple[int, ...]
    dims: tuple[int, ...]
    channels: int
    patch_size: int
    kernel_size: int
    stem_norm: bool
    layer_scale: bool
    classes: int | None

    @property
    def variant(self) -> str | None:
        """The name of the network of the paper, if it is one."""
        for row in VARIANTS.values():
            same = (row.depths, row.dims, row.patch_size, row.stem_norm) == (
                self.depths,
                self.dims,
                self.patch_size,
                self.stem_norm,
            )
            if same and self.kernel_size == 7:
                return row.name
        return None


class WeightFile:
    """Weights in a file, read one by one.

    Args:
        path: The file.
        checkpoint: The published checkpoint that the file holds, if it holds one.

    Attributes:
        path: The file.
        checkpoint: The published checkpoint that the file holds, or `None`.
        format: The project whose names and layout it has.
        shapes: Our path of every weight to its shape in our layout.
        unexpected: Names under the network's prefix that no weight of a ConvNeXt has, with their
            shapes.
        left_out: Sentences about what the file holds beside the network.

    Raises:
        WeightsError: If it cannot be read, or holds no ConvNeXt of a known format, or several, or a
            relative of ConvNeXt that this package does not have.
    """

    def __init__(self, path: Path, checkpoint: Checkpoint | None = None) -> None:
        self.checkpoint = checkpoint
        self.path = path
        self._file: TensorFile = open_tensor_file(path)
        found = recognize(path, self._file.shapes)
        self.format = found.format
        self._depths = _depths(self.format, found.names)
        names = {path: self.format.name_of(path) for path in _all_paths(self._depths)}
        self._names = {path: found.names[n] for path, n in names.items() if n in found.names}
        self.shapes = {path: self._shape(path) for path in self._names}
        self._check_relatives(found)
        known = set(self._names.values())
        self.unexpected = {
            name: self._file.shapes[name]
            for name in [*found.names.values(), *found.unexpected]
            if name not in known
        }
        self.left_out = self._left_out(found)

    def log_left_out(self) -> None:
        """Logs what the file holds beside the network and is not loaded."""
        for sentence in self.left_out:
            logger.warning("%s", sentence)

    def read(self, path: str) -> np.ndarray:
        """Returns the weight with one of our paths, in our layout."""
        return self.format.to_keras(path, self._file.read(self._names[path]))

    @property
    def architecture(self) -> Architecture:
        """The network that the weights belong to."""
        stages = range(1, len(self._depths))
        to_stage = ["stem/conv", *(f"stages_{stage}_downsampling/conv" for stage in stages)]
        return Architecture(
            depths=self._depths,
            dims=tuple(self._kernel(f"{layer}/kernel")[-1] for layer in to_stage),
            channels=self._kernel(STEM_KERNEL)[2],
            patch_size=self._kernel(STEM_KERNEL)[0],
            kernel_size=self._kernel(FIRST_BLOCK_KERNEL)[0],
            stem_norm="stem/norm/gamma" in self.shapes,
            layer_scale="stages_0_blocks_0/layer_scale/gamma" in self.shapes,
            classes=self.classes,
        )

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and standard deviation that its images are normalized by, on a scale of 0 to 1.

        They are known of a published checkpoint and of a model that Keras saved with its
        normalization; `None` of anything else.
        """
        if self.checkpoint is not None:
            return self.checkpoint.preprocessing.mean, self.checkpoint.preprocessing.std
        return normalization_in(self.path)

    @property
    def missing(self) -> list[str]:
        """Our paths of weights that a network of this architecture has and the file lacks."""
        optional = {"stem/norm", "head"}
        paths = _all_paths(self._depths)
        here = {path.rpartition("/")[0] for path in self.shapes}
        scaled = any(path.endswith("layer_scale/gamma") for path in self.shapes)

        def needed(path):
            layer = path.rpartition("/")[0]
            if layer.endswith("layer_scale"):
                return scaled
            return layer not in optional or layer in here

        return [path for path in paths if needed(path) and path not in self.shapes]

    @property
    def channels(self) -> int | None:
        """Channels of the images; `None` if the stem's kernel is not a convolution's."""
        shape = self.shapes.get(STEM_KERNEL, ())
        return shape[2] if len(shape) == 4 else None

    @property
    def classes(self) -> int | None:
        """Classes of the classifier; `None` without one."""
        return self.shapes["head/kernel"][-1] if "head/kernel" in self.shapes else None

    def _check_relatives(self, found):
        description = relative(found.names)
        if description is None and self.format is TIMM:
            name = of_another_epsilon(self._depths, self._dims, self.classes)
            description = name and f"timm's {name}, whose norms take another epsilon, 1e-5"
        if description is not None:
            raise WeightsError(
                f"{self.path} holds {description}. keras_convnext has no such network, and its own "
                f"would give other outputs with these weights."
            )

    @property
    def _dims(self):
        """The channels of every stage, read from the biases of its first block."""
        biases = [
            f"stages_{stage}_blocks_0/depthwise_conv/bias" for stage in range(len(self._depths))
        ]
        return tuple(size for bias in biases for size in self.shapes.get(bias, ()))

    def _left_out(self, found):
        sentences = list(self._file.left_out)
        if found.averages:
            sentences.append(
                f"{self.path} holds a ConvNeXt's weights under {found.prefix!r} and their moving "
                f"average under {', '.join(map(repr, found.averages))}: the weights are taken. To "
                f"take the average, save its state dict alone."
            )
        if found.beside:
            listed = ", ".join(
                f"{name} {self._file.shapes[name]}" for name in found.beside[:LISTED]
            )
            more = len(found.beside) - LISTED
            sentences.append(
                f"{self.path} holds weights that are not a ConvNeXt's and are not loaded: {listed}"
                f"{f' and {more} more' if more > 0 else ''}."
            )
        return sentences

    def _kernel(self, path):
        shape = self.shapes.get(path, ())
        if len(shape) != 4:
            raise WeightsError(f"{self.path} holds no ConvNeXt: {path} has the shape {shape}.")
        return shape

    def _shape(self, path):
        # An array of the file's shape that takes no memory.
        stand_in = np.broadcast_to(np.float32(0), self._file.shapes[self._names[path]])
        return self.format.to_keras(path, stand_in).shape


def open_weights(source: "str | os.PathLike | Checkpoint | WeightFile") -> WeightFile:
    """Returns the opened weight file of a source, downloading it if it is not here yet.

    Args:
        source: A published checkpoint, or anything else `fetch` takes. An opened file is returned
            as it is.

    Raises:
        WeightsError: If it cannot be fetched or read, or holds no ConvNeXt of this package.
    """
    if isinstance(source, WeightFile):
        return source
    return WeightFile(fetch(source), source if isinstance(source, Checkpoint) else None)


def _depths(format, names):
    """Returns the blocks of each stage, counted by their names."""
    depths: list[int] = []
    while blocks := _count_blocks(format, names, stage=len(depths)):
        depths.append(blocks)
    return tuple(depths)


def _count_blocks(format, names, stage):
    blocks = (f"stages_{stage}_blocks_{block}/depthwise_conv/kernel" for block in itertools.count())
    return sum(1 for _ in itertools.takewhile(lambda path: format.name_of(path) in names, blocks))


def _all_paths(depths):
    """Returns our path of every weight that a network of these depths may have."""
    layers = ["stem/conv", "stem/norm", "head_norm", "head"]
    for stage, depth in enumerate(depths):
        if stage > 0:
            layers += [f"stages_{stage}_downsampling/{part}" for part in ("norm", "conv")]
        layers += [
            f"stages_{stage}_blocks_{block}/{part}"
            for block in range(depth)
            for part in BLOCK_LAYERS
        ]
    return [f"{layer}/{weight}" for layer in layers for weight in _weights_of(layer)]


def _weights_of(layer):
    if layer.endswith("layer_scale"):
        return ("gamma",)
    return ("gamma", "beta") if layer.endswith("norm") else ("kernel", "bias")
