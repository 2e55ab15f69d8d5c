"""What takes part in a comparison, told by names alone, before any backend is imported."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from keras_convnext.catalog.architectures import get_variant
from keras_convnext.errors import MissingPackage, UserError
from keras_convnext.runtime import BACKENDS

OURS = "keras_convnext"
KERAS_APPLICATIONS = "keras.applications"
TIMM = "timm"
TIMM_COMPILED = "timm compiled"
TRANSFORMERS = "transformers"
PEERS = (KERAS_APPLICATIONS, TIMM, TIMM_COMPILED, TRANSFORMERS)
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Contender:
    """One network of one project, as it is measured.

    Attributes:
        project: `"keras_convnext"` or one of `PEERS`.
        network: Its name there, such as `"ConvNeXtTiny"`.
        backend: The Keras backend, or `"torch"` where Keras has no part.
        precision: `"float32"` or `"bfloat16"`, in which the weights stay float32: Keras's
            `mixed_bfloat16`, PyTorch's autocast.
        image_size: Height and width of its images in pixels; `None` for the comparison's.
    """

    project: str
    network: str
    backend: str
    precision: str
    image_size: int | None = None

    @property
    def label(self) -> str:
        """What a reader calls it."""
        size = f" at {self.image_size}" if self.image_size else ""
        return f"{self.project} {self.network}{size} on {self.backend}"


def contenders(
    model: str, backends: Sequence[str], precisions: Sequence[str], peers: Sequence[str] | None
) -> list[Contender]:
    """Returns a model of ours and its peers, on every backend and in every precision.

    Args:
        model: Name of one of our networks, such as `"convnext_tiny"`.
        backends: Keras backends.
        precisions: Some of `PRECISIONS`.
        peers: Some of `PEERS`, or `None` for `keras.applications` and timm or, where that is not
            installed, transformers; each as far as it has this network.

    Raises:
        UserError: If a name is unknown, or a peer that was asked for lacks the network.
        MissingPackage: If what was asked for is not installed.
    """
    name = get_variant(model).name
    _refuse_unknown("backend", backends, BACKENDS)
    _refuse_unknown("precision", precisions, PRECISIONS)
    for backend in backends:
        if find_spec(backend) is None:
            raise MissingPackage(f"The backend {backend!r}", backend)
    if peers is None:
        chosen = [peer for peer in _default_peers() if _name_at(peer, name)]
    else:
        _refuse_unknown("peer", peers, PEERS)
        chosen = list(peers)
    everyone = []
    for precision in precisions:
        everyone += [Contender(OURS, name, backend, precision) for backend in backends]
        for peer in chosen:
            theirs = _name_at(peer, name)
            if theirs is None:
                raise UserError(f"{peer} has no {name}. Leave out --peer {peer!r}.")
            on = backends if peer == KERAS_APPLICATIONS else ["torch"]
            _require_package(peer)
            everyone += [Contender(peer, theirs, backend, precision) for backend in on]
    return everyone


def others(
    names: Sequence[str], backends: Sequence[str], precisions: Sequence[str]
) -> list[Contender]:
    """Returns networks of other kinds, to stand beside ConvNeXt.

    Args:
        names: Such as `"EfficientNetV2S"`, of `keras.applications`, or `"timm:regnety_016"`. What
            follows an `@` is the images' height and width in pixels: `"EfficientNetB4@380"`.
        backends: Keras backends, for those of `keras.applications`.
        precisions: Some of `PRECISIONS`.

    Raises:
        UserError: If a name is of another project, or a size is none; or if timm is asked for and
            not installed.
    """
    everyone = []
    for precision in precisions:
        for name in names:
            project, network, size = _parts_of(name)
            if project == TIMM:
                _require_package(TIMM)
            on = ["torch"] if project == TIMM else backends
            everyone += [Contender(project, network, backend, precision, size) for backend in on]
    return everyone


def _parts_of(name: str) -> tuple[str, str, int | None]:
    """Returns the project, its network and the size of the images that a name asks for."""
    network, at, size = name.partition("@")
    project, colon, network = network.rpartition(":")
    if colon and project != TIMM:
        raise UserError(
            f"--compare takes a network of keras.applications, such as ResNet50, or one of "
            f"timm, such as timm:regnety_016. Received: {name!r}."
        )
    if at and not (size.isdecimal() and int(size) > 0):
        raise UserError(
            f"What follows @ in --compare is the images' height and width in pixels, such as "
            f"EfficientNetB4@380. Received: {name!r}."
        )
    return project or KERAS_APPLICATIONS, network, int(size) if at else None


def _default_peers() -> list[str]:
    hub = TIMM if find_spec("timm") else TRANSFORMERS
    return [KERAS_APPLICATIONS, *([hub] if find_spec(hub) and find_spec("torch") else [])]


def _name_at(peer: str, name: str) -> str | None:
    """Returns what a peer calls a network of ours; `None` if it has none like it."""
    if name.startswith("convnext_isotropic_"):
        return None
    if peer != KERAS_APPLICATIONS:
        return name
    size = name.removeprefix("convnext_")
    return f"ConvNeXt{'XLarge' if size == 'xlarge' else size.capitalize()}"


def _require_package(peer: str) -> None:
    if peer == KERAS_APPLICATIONS:
        return
    package = TIMM if peer == TIMM_COMPILED else peer
    for needed in ("torch", package):
        if find_spec(needed) is None:
            raise UserError(f"{peer} needs {needed}, which is not installed: pip install {needed}.")


def _refuse_unknown(kind: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise UserError(
                f"--{kind} must be one of {', '.join(map(repr, known))}. Received: {name!r}."
            )
