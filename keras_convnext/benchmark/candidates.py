"""The networks that a comparison measures, by name. Importing this module imports no backend."""

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
class Candidate:
    """One network of one project, with its backend and precision.

    Attributes:
        project: `"keras_convnext"` or one of `PEERS`.
        network: Its name in that project, such as `"ConvNeXtTiny"`.
        backend: The Keras backend, or `"torch"` for projects without Keras.
        precision: `"float32"`, or `"bfloat16"` with float32 weights: Keras's `mixed_bfloat16`,
            PyTorch's autocast.
        image_size: Height and width of its images in pixels; `None` for the comparison's.
    """

    project: str
    network: str
    backend: str
    precision: str
    image_size: int | None = None

    @property
    def label(self) -> str:
        """Name for tables and charts."""
        size = f" at {self.image_size}" if self.image_size else ""
        return f"{self.project} {self.network}{size} on {self.backend}"


def candidates(
    model: str, backends: Sequence[str], precisions: Sequence[str], peers: Sequence[str] | None
) -> list[Candidate]:
    """Returns a model of ours and its peers, on every backend and in every precision.

    Args:
        model: Name of one of our networks, such as `"convnext_tiny"`.
        backends: Keras backends.
        precisions: Some of `PRECISIONS`.
        peers: Some of `PEERS`; or `None` for `keras.applications` and timm (transformers if timm is
            not installed), each only if it has this network.

    Raises:
        UserError: If a name is unknown, or a requested peer lacks the network.
        MissingPackage: If a requested package is not installed.
    """
    name = get_variant(model).name
    _check_known("backend", backends, BACKENDS)
    _check_known("precision", precisions, PRECISIONS)
    for backend in backends:
        if find_spec(backend) is None:
            raise MissingPackage(f"The backend {backend!r}", backend)
    if peers is None:
        chosen = [peer for peer in _default_peers() if _name_at(peer, name)]
    else:
        _check_known("peer", peers, PEERS)
        chosen = list(peers)
    everyone = []
    for precision in precisions:
        everyone += [Candidate(OURS, name, backend, precision) for backend in backends]
        for peer in chosen:
            theirs = _name_at(peer, name)
            if theirs is None:
                raise UserError(f"{peer} has no {name}. Leave out --peer {peer!r}.")
            on = backends if peer == KERAS_APPLICATIONS else ["torch"]
            _require_package(peer)
            everyone += [Candidate(peer, theirs, backend, precision) for backend in on]
    return everyone


def extra_candidates(
    names: Sequence[str], backends: Sequence[str], precisions: Sequence[str]
) -> list[Candidate]:
    """Returns networks of other kinds to compare with ConvNeXt.

    Args:
        names: A network of `keras.applications`, such as `"EfficientNetV2S"`, or of timm, such as
            `"timm:regnety_016"`; optionally with `@` and the height and width of the images in
            pixels: `"EfficientNetB4@380"`.
        backends: Keras backends, for networks of `keras.applications`.
        precisions: Some of `PRECISIONS`.

    Raises:
        UserError: If a name belongs to another project, a size is not a positive number, or timm is
            requested and not installed.
    """
    everyone = []
    for precision in precisions:
        for name in names:
            project, network, size = _parts_of(name)
            if project == TIMM:
                _require_package(TIMM)
            on = ["torch"] if project == TIMM else backends
            everyone += [Candidate(project, network, backend, precision, size) for backend in on]
    return everyone


def _parts_of(name: str) -> tuple[str, str, int | None]:
    """Returns the project, the network and the image size that a name stands for."""
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
    """Returns a peer's name for one of our networks; `None` if it lacks the network."""
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


def _check_known(kind: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise UserError(
                f"--{kind} must be one of {', '.join(map(repr, known))}. Received: {name!r}."
            )
