"""Finds a ConvNeXt's tensors in a file: the format of their names, and the prefix before them.

A network that was trained as part of something else is saved with a prefix before every name:
`model.` by Lightning, `module.` by DistributedDataParallel, `backbone.` by a module that holds one,
and any combination. All names of the network have the same prefix, so two of them show it.
"""

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

from keras_convnext.errors import WeightsError
from keras_convnext.weights.formats import FORMATS, Format
from keras_convnext.weights.relatives import other_network

FIRST_KERNELS = ("stem/conv/kernel", "stages_0_blocks_0/depthwise_conv/kernel")
# Wrappers of PyTorch modules, which may also wrap an inner module.
TRANSPARENT = re.compile(
    r"(?:(?<=\.)|^)(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
# Words in names that mean a moving average of the weights.
AVERAGE = re.compile(r"(?<![a-z])(ema|swa|averaged?)(?![a-z])", re.IGNORECASE)
# Under the PyTorch backend Keras (3.12 to 3.15) repeats a layer's weights in the layer around it.
KERAS_PARAMETERS = "_torch_params."
# The state of Keras's random draws, and the updates that PyTorch's `AveragedModel` counts.
NO_WEIGHTS = ("seed_generator_state", "n_averaged")


@dataclasses.dataclass(frozen=True)
class Recognized:
    """The tensors of a ConvNeXt among those of a file.

    Attributes:
        format: The format of their names.
        names: The format's name of a weight to its name in the file. Names that the format does not
            have are here too, if they have the network's prefix.
        unexpected: Names in the file that duplicate a weight of the network.
        beside: Names of the tensors that are not the network's.
        prefix: The prefix before the format's names.
        averages: Prefixes before the names of the weights' moving averages.
    """

    format: Format
    names: dict[str, str]
    unexpected: list[str]
    beside: list[str]
    prefix: str
    averages: list[str]


def recognize(path: Path, names: Iterable[str]) -> Recognized:
    """Finds the ConvNeXt among the tensors of a file.

    Raises:
        WeightsError: If there is none of a known format, or more than one.
    """
    names = list(names)
    for format in FORMATS:
        normalized = {name: format.normalize_name(TRANSPARENT.sub("", name)) for name in names}
        prefixes = _prefixes(format, set(normalized.values()))
        if prefixes:
            return _split(format, normalized, *_choose(path, prefixes))
    first = ", ".join(names[:3]) or "none"
    other = other_network(names)
    raise WeightsError(
        f"{path} holds no ConvNeXt of a known format{f', but {other}' if other else ''}: those of "
        f"the official code, timm, transformers, torchvision, keras.applications and this package "
        f"are known. Its first tensors: {first}."
    )


def _prefixes(format, names):
    """Returns the prefix of every ConvNeXt among the names."""
    stem, block = map(format.name_of, FIRST_KERNELS)
    found = {name.removesuffix(stem) for name in names if name.endswith(stem)}
    return sorted(
        prefix for prefix in found if prefix + block in names and (not prefix or prefix[-1] in "./")
    )


def _choose(path, prefixes):
    """Returns the prefix of the network itself, and those of its copies."""
    inner = [prefix for prefix in prefixes if not _is_repeated(prefix, prefixes)]
    averages = [prefix for prefix in inner if AVERAGE.search(prefix)]
    networks = [prefix for prefix in inner if prefix not in averages] or averages
    if len(networks) > 1:
        listed = ", ".join(map(repr, networks))
        raise WeightsError(
            f"{path} holds {len(networks)} ConvNeXts, whose weights' names begin with {listed}. "
            f"Save the state dict of the one to load alone."
        )
    return networks[0], [prefix for prefix in prefixes if prefix != networks[0]]


def _is_repeated(prefix, prefixes):
    if not prefix.endswith(KERAS_PARAMETERS):
        return False
    around = prefix.removesuffix(KERAS_PARAMETERS)
    return any(other != prefix and other.startswith(around) for other in prefixes)


def _split(format, normalized, prefix, copies):
    """Sorts the names of a file; `normalized` maps each to its spelling in the format."""
    own: dict[str, str] = {}
    unexpected, beside = [], []
    within = tuple(copy for copy in copies if copy.startswith(prefix))
    for name, normalized_name in normalized.items():
        rest = normalized_name.removeprefix(prefix)
        is_of_copy = bool(within) and normalized_name.startswith(within)
        if normalized_name.endswith(NO_WEIGHTS):
            continue
        if is_of_copy or not normalized_name.startswith(prefix) or not format.is_own(rest):
            beside.append(name)
        elif rest in own:
            unexpected.append(name)
        else:
            own[rest] = name
    others = [name for name in beside if not _is_copy(normalized[name], copies, own)]
    averages = [copy for copy in copies if AVERAGE.search(copy)]
    return Recognized(format, own, unexpected, others, prefix, averages)


def _is_copy(name, copies, own):
    """Whether the name is a second copy of a weight of the network."""
    return any(name.startswith(copy) and name.removeprefix(copy) in own for copy in copies)
