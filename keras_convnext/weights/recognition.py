"""Which of a file's tensors are a ConvNeXt's: whose names they have, and what stands before them.

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
# Modules of PyTorch around another, which may also stand around one that lies deeper.
TRANSPARENT = re.compile(
    r"(?:(?<=\.)|^)(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
# A moving average of the weights, by the words that stand for it in names.
AVERAGE = re.compile(r"(?<![a-z])(ema|swa|averaged?)(?![a-z])", re.IGNORECASE)
# Under the PyTorch backend Keras (3.12 to 3.15) repeats a layer's weights in the layer around it.
KERAS_PARAMETERS = "_torch_params."
# The state of Keras's random draws, and the updates that PyTorch's `AveragedModel` counts.
NO_WEIGHTS = ("seed_generator_state", "n_averaged")


@dataclasses.dataclass(frozen=True)
class Recognized:
    """The tensors of a ConvNeXt among those of a file.

    Attributes:
        format: Whose names they have.
        names: The name that the format gives a weight to its name in the file. Names that the
            format does not have stand here too, if they have the network's prefix.
        unexpected: Names in the file that mean a weight of the network once more.
        beside: Names of the tensors that are not the network's.
        prefix: What stands before the format's names.
        averages: What stands before the names of the weights' moving averages.
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
        plain = {name: format.normalize_name(TRANSPARENT.sub("", name)) for name in names}
        prefixes = _prefixes(format, set(plain.values()))
        if prefixes:
            return _split(format, plain, *_choose(path, prefixes))
    first = ", ".join(names[:3]) or "none"
    other = other_network(names)
    raise WeightsError(
        f"{path} holds no ConvNeXt of a known format{f', but {other}' if other else ''}: those of "
        f"the official code, timm, transformers, torchvision, keras.applications and this package "
        f"are known. Its first tensors: {first}."
    )


def _prefixes(format, plain_names):
    """Returns what stands before the names of a ConvNeXt, for each that is there."""
    stem, block = map(format.name_of, FIRST_KERNELS)
    found = {name.removesuffix(stem) for name in plain_names if name.endswith(stem)}
    return sorted(
        prefix
        for prefix in found
        if prefix + block in plain_names and (not prefix or prefix[-1] in "./")
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
            f"Which of them is meant cannot be told: save the state dict of that one alone."
        )
    return networks[0], [prefix for prefix in prefixes if prefix != networks[0]]


def _is_repeated(prefix, prefixes):
    if not prefix.endswith(KERAS_PARAMETERS):
        return False
    around = prefix.removesuffix(KERAS_PARAMETERS)
    return any(other != prefix and other.startswith(around) for other in prefixes)


def _split(format, plain, prefix, copies):
    """Sorts the names of a file, of which `plain` has each as the format writes it."""
    own: dict[str, str] = {}
    unexpected, beside = [], []
    within = tuple(copy for copy in copies if copy.startswith(prefix))
    for name, plain_name in plain.items():
        rest = plain_name.removeprefix(prefix)
        is_of_copy = bool(within) and plain_name.startswith(within)
        if plain_name.endswith(NO_WEIGHTS):
            continue
        if is_of_copy or not plain_name.startswith(prefix) or not format.is_own(rest):
            beside.append(name)
        elif rest in own:
            unexpected.append(name)
        else:
            own[rest] = name
    others = [name for name in beside if not _is_copy(plain[name], copies, own)]
    averages = [copy for copy in copies if AVERAGE.search(copy)]
    return Recognized(format, own, unexpected, others, prefix, averages)


def _is_copy(plain_name, copies, own):
    """Whether a weight of the network stands there once more."""
    return any(
        plain_name.startswith(copy) and plain_name.removeprefix(copy) in own for copy in copies
    )
