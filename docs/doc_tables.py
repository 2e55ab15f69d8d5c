"""The tables of the documentation that follow from the code or from the committed measurements."""

import json
import statistics
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from keras_convnext.catalog.architectures import VARIANTS
from keras_convnext.catalog.checkpoints import CHECKPOINTS, IMAGENET_TAGS
from keras_convnext.recipe import Recipe

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Returns a table in Markdown; columns of numbers are aligned to the right."""
    head = list(head)
    lines = [[str(cell) for cell in row] for row in rows]
    marks = []
    for column in range(len(head)):
        cells = [line[column].strip("*") for line in lines]
        is_number = all(not cell or cell[0].isdigit() or cell == "-" for cell in cells)
        marks.append("---:" if is_number else "---")
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, marks, *lines))


def result(name: str) -> dict:
    """Returns a committed measurement."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def models() -> str:
    """Returns the networks with their sizes."""
    rows = (
        (
            f"`{_constructor(name)}`",
            ", ".join(map(str, row.depths)),
            ", ".join(map(str, row.dims)),
            f"{row.parameters:,}",
            f"{row.gmacs_224:.2f}",
        )
        for name, row in VARIANTS.items()
    )
    return table(("model", "blocks", "channels", "parameters", "GMACs at 224"), rows)


def _constructor(name: str) -> str:
    words = name.removeprefix("convnext_").split("_")
    return "ConvNeXt" + "".join("XLarge" if w == "xlarge" else w.capitalize() for w in words)


def weights() -> str:
    """Returns the published checkpoints."""
    rows = (
        (
            f"`{row.name}`" + (" (`imagenet`)" if IMAGENET_TAGS.get(row.model) == row.tag else ""),
            f"{row.classes:,}",
            row.image_size,
            "" if row.top_1 is None else f"{row.top_1:.1f}",
            "" if row.top_1_timm is None else f"{row.top_1_timm:.3f}",
            "Hub" if row.hub else "server",
            row.licence,
        )
        for row in CHECKPOINTS.values()
    )
    head = ("name", "classes", "image size", "top-1 %", "top-1 % by timm", "from", "licence")
    return table(head, rows)


def recipe_keys() -> str:
    """Returns every key of a recipe, section by section, from the descriptions of its fields."""
    return "\n\n".join(_sections(Recipe, ""))


def _sections(section: type[BaseModel], path: str) -> Iterator[str]:
    rows, inner = [], []
    for name, field in section.model_fields.items():
        nested = _nested(field.annotation)
        key = f"{path}{name}"
        if nested is not None:
            inner.append((nested, f"{key}."))
        if nested is None or field.description:
            default = (
                "required"
                if field.is_required()
                else _default(field.get_default(call_default_factory=True))
            )
            rows.append((f"`{name}`", _kind(field), default, _escaped(field.description or "")))
    title = f"## `{path.rstrip('.')}`" if path else "## Top level"
    text = _escaped(" ".join((section.__doc__ or "").split()))
    if rows:
        yield f"{title}\n\n{text}\n\n{table(('key', 'values', 'default', 'meaning'), rows)}"
    for nested, nested_path in inner:
        yield from _sections(nested, nested_path)


def _nested(annotation: Any) -> type[BaseModel] | None:
    kinds = [annotation, *get_args(annotation)]
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)


def _kind(field) -> str:
    """Returns the values that a field takes, such as "number, at least 0" or "`all`, `head`"."""
    limits = []
    for limit in field.metadata:
        limits += _limits(limit)
    return ", ".join([_type_name(field.annotation), *limits])


def _limits(limit: Any) -> list[str]:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    found = [f"{word} {getattr(limit, key)}" for key, word in words.items() if hasattr(limit, key)]
    return [] if found == ["below 4294967296"] else found


def _type_name(annotation: Any) -> str:
    if annotation is type(None):
        return "`null`"
    origin = get_origin(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " or ".join(map(_type_name, get_args(annotation)))
    if hasattr(annotation, "__metadata__"):
        base, *metadata = get_args(annotation)
        limits = [
            word for limit in metadata for field in _metadata(limit) for word in _limits(field)
        ]
        return ", ".join([_type_name(base), *limits])
    if origin is tuple:
        arguments = get_args(annotation)
        return "list" if ... in arguments else f"{len(arguments)} numbers"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    names = {bool: "`true`, `false`", int: "whole number", float: "number", str: "text"}
    return names.get(annotation, str(annotation))


def _metadata(limit: Any) -> list[Any]:
    return getattr(limit, "metadata", None) or [limit]


def _default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "its section's"
    if isinstance(value, tuple):
        return f"`[{', '.join(f'{number:g}' for number in value)}]`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{json.dumps(value)}`" if not isinstance(value, str) else f"`{value}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def digits() -> str:
    """Returns the accuracies of the digits recipe."""
    rows = []
    for backend, figures in result("digits")["backends"].items():
        interval = figures.get("interval_of_the_mean")
        rows.append(
            (
                BACKENDS[backend],
                f"{figures['mean_top_1']:.2%}",
                " to ".join(f"{end:.2%}" for end in interval) if interval else "-",
                f"{figures['lowest_top_1']:.2%}",
                f"{figures['longest_training_seconds']:.0f} s",
            )
        )
    head = ("backend", "mean top-1", "95 % interval of the mean", "lowest", "longest training")
    return table(head, rows)


def _speeds(name: str) -> dict[tuple[str, str, str], dict]:
    rows = result(f"speed/{name}/benchmark")["results"]
    return {(row["project"], row["backend"], row["precision"]): row for row in rows}


def _ratio(ours: dict, peer: dict, task: str) -> float:
    pairs = zip(ours["seconds"][task], peer["seconds"][task], strict=True)
    return statistics.median(theirs / own for own, theirs in pairs)


def speed() -> str:
    """Returns the speed beside keras.applications, the table of the README."""
    rows = []
    for backend, title in BACKENDS.items():
        found = _speeds(backend)
        ours = found["keras_convnext", backend, "float32"]
        peer = found["keras.applications", backend, "float32"]
        row = [title]
        for task in ("forward", "train"):
            rates = [f"{each['images_per_second'][task]:.1f}" for each in (ours, peer)]
            row += [*rates, f"{_ratio(ours, peer, task):.2f}"]
        rows.append(row)
    head = ("", "forward", "keras.applications", "ratio", "train step", "keras.applications")
    return table((*head, "ratio"), rows)


def speed_timm(suffix: str) -> str:
    """Returns the speed and memory beside timm, on each backend and in each precision."""
    rows = []
    for precision in ("float32", "bfloat16"):
        for backend, title in BACKENDS.items():
            found = _speeds(f"{backend}_timm{suffix}")
            ours, peer = (
                found[project, on, precision]
                for project, on in (("keras_convnext", backend), ("timm", "torch"))
            )
            row = [f"{title}, {precision}"]
            for task in ("forward", "train"):
                rates = [f"{each['images_per_second'][task]:.1f}" for each in (ours, peer)]
                row += [*rates, f"{_ratio(ours, peer, task):.2f}"]
            row.append(f"{peer['train_memory_mib'] / ours['train_memory_mib']:.2f}")
            rows.append(row)
    return table(("", "forward", "timm", "ratio", "train step", "timm", "ratio", "memory"), rows)


def speed_more() -> str:
    """Returns the ratios against timm compiled, and of ConvNeXt-Base against timm."""
    compiled, base = _speeds("timm_compiled"), _speeds("base")
    rows = []
    for precision in ("float32", "bfloat16"):
        ratios = [
            _ratio(
                compiled["keras_convnext", backend, precision],
                compiled["timm compiled", "torch", precision],
                "forward",
            )
            for backend in BACKENDS
        ]
        rows.append((f"Tiny, forward, timm compiled, {precision}", *(f"{r:.2f}" for r in ratios)))
    peer = base["timm", "torch", "float32"]
    for task, title in (("forward", "forward"), ("train", "train step")):
        ratios = [_ratio(base["keras_convnext", b, "float32"], peer, task) for b in BACKENDS]
        rows.append((f"Base, {title}, timm, float32", *(f"{r:.2f}" for r in ratios)))
    return table(("", *BACKENDS.values()), rows)


def table_1() -> str:
    """Returns the speed of other kinds of networks."""
    rows = result("speed/table_1/benchmark")["results"]
    rows = sorted(rows, key=lambda row: -row["images_per_second"]["forward"])
    lines = []
    for row in rows:
        size = f" at {row['image_size']}" if row.get("image_size") else ""
        name = f"{row['project']} {row['network']}{size}, {BACKENDS[row['backend']]}"
        bold = "**" if row["project"] == "keras_convnext" else ""
        rate = f"{row['images_per_second']['forward']:.1f}"
        lines.append((f"{bold}{name}{bold}", rate))
    return table(("network", "images per second"), lines)


def matmuls() -> str:
    """Returns the speed of ConvNeXt-Tiny's matrix multiplications alone."""
    document = result("matmuls")
    rows = [
        (
            f"{BACKENDS[row['backend']]}, {row['precision']}",
            f"{row['gigaflops']:.0f}",
            f"{row['images_per_second']['forward']:.1f}",
            f"{row['images_per_second']['train']:.1f}",
        )
        for row in document["results"]
    ]
    return table(("", "GFLOP/s", "forward, images/s", "train step, images/s"), rows)


def start() -> str:
    """Returns the times until something can be computed."""
    rows = [
        (BACKENDS[b], f"{f['for_a_model_seconds']:.2f} s", f"{f['building_xlarge_seconds']:.1f} s")
        for b, f in result("start")["backends"].items()
    ]
    return table(("", "import of the models, beyond Keras", "building XLarge"), rows)


def deployed() -> str:
    """Returns the speed of exported networks beside timm's."""
    cells: dict[tuple[str, str], list[str]] = {}
    for row in result("deployed")["speed"]:
        ours, timm = row["ours_ms_per_image"], row["timm_ms_per_image"]
        cells.setdefault((row["engine"], row["precision"]), []).extend(
            (f"{ours:.1f}", f"{timm:.1f}", f"{row['ratio']:.2f}")
        )
    head = ("ms an image", "batch of 8", "timm", "ratio", "one image", "timm", "ratio")
    return table(head, ((", ".join(case), *values) for case, values in cells.items()))


def deployed_digits() -> str:
    """Returns the mistakes of exported networks."""
    rows = (
        (
            f"{row['engine']}, {row['precision']}",
            f"{row['mistakes']} of {row['images']}",
            f"{row['greatest_change_of_a_probability']:.2g}",
        )
        for row in result("deployed")["digits"]
    )
    return table(("", "mistakes", "greatest change of a probability"), rows)


def input_speed() -> str:
    """Returns the speed of the input pipeline beside timm's loader."""
    titles = {
        "paper": "everything: crop, flip, RandAugment, erasing, Mixup or CutMix",
        "decode, crop, resize, flip": "decoding, crop, resizing and flip only",
        "keras_cv": "the policy `keras_cv`, against everything by timm",
    }
    document = result("input")
    rows = (
        (
            titles[name],
            *(f"{document['images_per_second'][name][side]:.0f}" for side in ("ours", "timm")),
            f"{ratio:.2f}",
        )
        for name, ratio in document["ratio"].items()
    )
    return table(("images per second", "keras_convnext", "timm", "ratio"), rows)


def conversion() -> str:
    """Returns the memory and time of conversions."""
    rows = (
        (
            f"`{Path(row['from']).suffix}` to `{''.join(Path(row['to']).suffixes)}`",
            row["format"] or "keras",
            f"{row['seconds']:.1f} s",
            f"{row['times']:.2f}",
        )
        for row in result("conversion")["conversions"]
    )
    return table(("conversion", "format", "time", "peak memory, times the file"), rows)


def scaling_gradients() -> str:
    """Returns the predicted times to add up gradients and to compute a step."""
    rows = []
    for size, network in result("scaling")["networks"].items():
        seconds, rates = network["all_reduce_seconds"]["1"], network["training_images_per_second"]
        rows.append(
            (
                size,
                f"{network['gradient_bytes'] / 1e6:.0f}",
                *(f"{1000 * seconds[gpus]:.1f}" for gpus in ("8", "32", "128", "1024")),
                *(f"{1000 * 32 / rates[gpu]:.0f}" for gpu in ("assumed", "A100", "V100")),
            )
        )
    head = ("ConvNeXt", "MB", *(f"{gpus} GPUs, ms" for gpus in ("8", "32", "128", "1,024")))
    return table((*head, "assumed GPU, ms", "A100, ms", "V100, ms"), rows)


def scaling_efficiency(batch: str) -> str:
    """Returns the predicted efficiencies, for `batch` "global" or "per GPU"."""
    cells: dict[str, list[str]] = {}
    for row in result("scaling")["efficiency"]:
        if row["batch"] == batch and (row["links"] == 1 or row["gpus"] > 100):
            shares = (row["efficiency_overlapped"], row["efficiency"])
            cells.setdefault(row["network"], []).append(" / ".join(f"{s:.0%}" for s in shares))
    head = ("ConvNeXt", "8 GPUs", "32", "128", "1,024", "128, eight links", "1,024, eight links")
    return table(head, ((size, *values) for size, values in cells.items()))


def distribution() -> str:
    """Returns what training on two devices of one machine costs."""
    ways = {"one": "one process", "processes": "two processes", "devices": "two devices"}
    rows = []
    measured = result("distribution")["backends"]
    for backend, images in ((name, images) for name in measured for images in measured[name]):
        found = measured[backend][images]
        speed, memory = found["images_per_second"], found["peak_memory_mib"]
        rows.append(
            (
                BACKENDS[backend],
                images,
                *(f"{speed[way]:.1f}" if way in speed else "-" for way in ways),
                *(
                    f"{found['efficiency'][way]:.2f}" if way in speed else "-"
                    for way in ("processes", "devices")
                ),
                f"{found['share_of_exchange']:.0%}",
                *(f"{memory[way]:,.0f}" if way in memory else "-" for way in ways),
            )
        )
    head = (
        "",
        "images in a step",
        *(f"{words}, images/s" for words in ways.values()),
        "two processes, of one",
        "two devices, of one",
        "share of the exchange, two processes",
        *(f"{words}, MiB" for words in ways.values()),
    )
    return table(head, rows)


def digits_on_devices() -> str:
    """Returns how much the digits recipe differs on two devices from one."""
    spans = ("first_epoch", "first_ten_epochs", "all_epochs")
    rows = []
    for backend, found in result("digits_on_devices")["backends"].items():
        differences = found["largest_difference"]
        for name in ("loss", "val_loss", "val_accuracy"):
            cells = (f"{differences[span][name]:.1e}" for span in spans)
            rows.append((BACKENDS[backend], f"`{name}`", *cells))
        one, two = found["top_1"]
        rows.append((BACKENDS[backend], "top-1 at the end", "", "", f"{one:.2%}, {two:.2%}"))
    return table(("", "", "first epoch", "first ten epochs", "all 60 epochs"), rows)


def predict_files() -> str:
    """Returns the speed and the memory of predictions for many files."""
    measured = result("predict_files")
    rows = [
        (
            BACKENDS[backend],
            *(f"{found[way]:.1f}" for way in ("keras_convnext", "timm")),
            f"{found['ratio']:.2f}",
        )
        for backend, found in measured["images_per_second"].items()
    ]
    return table(("", "images/s", "timm's loop, images/s", "ratio"), rows)


def scaling_input() -> str:
    """Returns the images per second and the cores that training on ImageNet-22K takes."""
    gpus = {"V100": "V100", "A100": "A100", "assumed": "assumed GPU"}
    rows = (
        (
            f"{row['network']}, {gpus[row['gpu']]}",
            *(f"{row['images_per_second'][n]:,.0f}" for n in ("8", "32", "128", "1024")),
            f"{row['cores_per_host']:.0f}",
            *(f"{row['cores'][n]:,.0f}" for n in ("128", "1024")),
            f"{row['hours']['128']:.1f}",
        )
        for row in result("scaling")["imagenet_22k"]
    )
    head = ("images/s", "8 GPUs", "32", "128", "1,024", "cores a host")
    return table((*head, "cores, 128 GPUs", "cores, 1,024", "hours, 128 GPUs"), rows)


TABLES = {
    "models": models,
    "weights": weights,
    "recipe-keys": recipe_keys,
    "digits": digits,
    "digits-on-devices": digits_on_devices,
    "distribution": distribution,
    "predict-files": predict_files,
    "speed": speed,
    "speed-timm": lambda: speed_timm(""),
    "speed-timm-one-image": lambda: speed_timm("_one_image"),
    "speed-more": speed_more,
    "table-1": table_1,
    "matmuls": matmuls,
    "start": start,
    "deployed": deployed,
    "deployed-digits": deployed_digits,
    "input": input_speed,
    "conversion": conversion,
    "scaling-gradients": scaling_gradients,
    "scaling-global-batch": lambda: scaling_efficiency("global"),
    "scaling-batch-per-gpu": lambda: scaling_efficiency("per GPU"),
    "scaling-input": scaling_input,
}
