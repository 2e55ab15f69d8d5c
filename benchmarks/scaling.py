"""Predicts how data-parallel training scales over GPUs. Nothing here is measured on GPUs.

    python benchmarks/scaling.py --save

The arithmetic behind docs/scaling.md, from the networks' parameters and multiply-adds, the images
per second in the paper, the input pipeline's speed in `benchmarks/results/input.json`, and the
assumptions below. The last line of output is one JSON document; `--save` also writes it to
`benchmarks/results/scaling.json`, and draws docs/images/scaling.png.
"""

import json
import math

from common import ROOT, make_parser, publish, result_file
from rich.table import Table

from keras_convnext.catalog.architectures import VARIANTS

NETWORKS = {size: VARIANTS[f"convnext_{size}"] for size in ("tiny", "small", "base", "large")}
NETWORKS["xlarge"] = VARIANTS["convnext_xlarge"]
GPUS = (8, 32, 128, 1024)
GPUS_PER_HOST = 8
GLOBAL_BATCH = 4096  # of all the paper's pre-training, table 5
IMAGES_PER_GPU = 32  # of the official command for ImageNet-22K: 16 hosts of 8 GPUs
BYTES_PER_GRADIENT = 4  # float32

# NVIDIA's data sheet of the H100 SXM: 900 GB/s of NVLink, half of it in each direction.
NVLINK = 450e9
# An InfiniBand NDR link, 400 Gb/s. All GPUs of a host share one; a DGX H100 has eight.
LINK = 400e9 / 8
LINKS = (1, 8)
# Assumed: the share of the bandwidth that all-reduce reaches, and the delay of a message.
SHARE_REACHED = 0.8
DELAY = 10e-6

# Forward pass, and twice as much backward; a multiply-add is two operations.
OPERATIONS_PER_MULTIPLY_ADD = 2 * 3
BACKWARD_SHARE = 2 / 3
# Assumed for a GPU of today: a tenth of the H100's 989e12 operations per second in bfloat16.
ASSUMED_RATE = 100e12
# Images per second of inference, the paper's tables 1 and 12: V100 in float32; A100 in TF32.
PAPER = {
    "tiny": {"V100": 774.7, "A100": 1943.5},
    "small": {"V100": 447.1, "A100": 1275.3},
    "base": {"V100": 292.1, "A100": 969.0},
    "large": {"V100": 146.8, "A100": 611.5},
    "xlarge": {"V100": 89.3, "A100": 424.4},
}
IMAGENET_22K, EPOCHS_22K = 14_197_122, 90  # images of the release of fall 2011; table 5


def main() -> None:
    parser = make_parser(__doc__, "scaling")
    arguments = parser.parse_args()
    document = predict()
    publish(document, efficiency_table(document), to_file=arguments.save)
    if arguments.save:
        draw(document)


def predict() -> dict:
    """Returns all predictions."""
    rate_of_a_core = input_rate_of_a_core()
    return {
        "benchmark": "scaling",
        "kind": "prediction",
        "assumptions": {
            "nvlink_bytes_per_second": NVLINK,
            "network_bytes_per_second_of_a_link": LINK,
            "share_of_the_bandwidth_reached": SHARE_REACHED,
            "delay_of_a_message_seconds": DELAY,
            "operations_per_second": ASSUMED_RATE,
            "gpus_per_host": GPUS_PER_HOST,
        },
        "networks": {size: of_network(size) for size in NETWORKS},
        "efficiency": [
            of_layout(size, gpus, batch, links)
            for size in NETWORKS
            for batch in ("global", "per GPU")
            for links in LINKS
            for gpus in GPUS
        ],
        "input_images_per_second_of_a_core": rate_of_a_core,
        "imagenet_22k": [
            of_imagenet_22k(size, kind, rate_of_a_core)
            for size in NETWORKS
            for kind in ("V100", "A100", "assumed")
        ],
    }


def of_network(size: str) -> dict:
    """Returns the gradients of one network, and the times to add them up and to compute them."""
    size_in_bytes = gradient_bytes(size)
    return {
        "gradient_bytes": size_in_bytes,
        "all_reduce_seconds": {
            str(links): {str(gpus): all_reduce_seconds(size_in_bytes, gpus, links) for gpus in GPUS}
            for links in LINKS
        },
        "operations_per_image": operations_per_image(size),
        "training_images_per_second": {
            kind: training_rate(size, kind) for kind in ("V100", "A100", "assumed")
        },
    }


def gradient_bytes(size: str) -> int:
    """Returns the bytes of a network's gradients, with 1000 classes."""
    return NETWORKS[size].parameters * BYTES_PER_GRADIENT


def operations_per_image(size: str) -> float:
    """Returns the operations of a training step, for each image of 224x224 pixels."""
    return NETWORKS[size].gmacs_224 * 1e9 * OPERATIONS_PER_MULTIPLY_ADD


def training_rate(size: str, kind: str) -> float:
    """Returns the images per second of one GPU.

    The paper measured inference. A training step has three times its operations.
    """
    if kind == "assumed":
        return ASSUMED_RATE / operations_per_image(size)
    return PAPER[size][kind] / 3


def ring_seconds(size_in_bytes: float, members: int, bandwidth: float) -> float:
    """Returns the time of an all-reduce in a ring.

    Every member sends each of `members` pieces on in turn, twice but for one.

    Args:
        size_in_bytes: What each member has.
        members: Their number; with one, nothing is sent.
        bandwidth: Bytes per second from one member to the next.
    """
    steps = 2 * (members - 1)
    return steps * (size_in_bytes / members / (bandwidth * SHARE_REACHED) + DELAY)


def all_reduce_seconds(size_in_bytes: float, gpus: int, links: int) -> float:
    """Returns the time to add up gradients: within each host by NVLink, and between hosts.

    Args:
        size_in_bytes: The gradients of one GPU.
        gpus: Number of GPUs.
        links: Number of network links of each host.
    """
    hosts = math.ceil(gpus / GPUS_PER_HOST)
    within = ring_seconds(size_in_bytes, min(gpus, GPUS_PER_HOST), NVLINK)
    return within + ring_seconds(size_in_bytes, hosts, LINK * links)


def efficiency(compute: float, communication: float, overlapped: bool) -> float:
    """Returns the computing's share of a step's time.

    Args:
        compute: Seconds of forward and backward pass.
        communication: Seconds of the all-reduce.
        overlapped: Whether gradients are sent while the backward pass computes others.
    """
    hidden = BACKWARD_SHARE * compute if overlapped else 0.0
    return compute / (compute + max(0.0, communication - hidden))


def of_layout(size: str, gpus: int, batch: str, links: int) -> dict:
    """Returns the efficiency of one network on a number of GPUs.

    Args:
        size: The network.
        gpus: Their number.
        batch: `"global"` for a batch of 4096 images on all GPUs, `"per GPU"` for 32 on each.
        links: Number of network links of each host.
    """
    images = GLOBAL_BATCH / gpus if batch == "global" else IMAGES_PER_GPU
    compute = images / training_rate(size, "assumed")
    communication = all_reduce_seconds(gradient_bytes(size), gpus, links)
    return {
        "network": size,
        "gpus": gpus,
        "batch": batch,
        "links": links,
        "images_per_gpu": images,
        "compute_seconds": compute,
        "communication_seconds": communication,
        "efficiency": efficiency(compute, communication, overlapped=False),
        "efficiency_overlapped": efficiency(compute, communication, overlapped=True),
    }


def input_rate_of_a_core() -> float:
    """Returns the measured images per second of the input pipeline, for each processor core."""
    measured = json.loads(result_file("input").read_text())
    return measured["images_per_second"]["paper"]["ours"] / measured["processors"]


def of_imagenet_22k(size: str, kind: str, rate_of_a_core: float) -> dict:
    """Returns what training on ImageNet-22K takes where nothing slows the GPUs down."""
    host = training_rate(size, kind) * GPUS_PER_HOST
    rates = {str(gpus): training_rate(size, kind) * gpus for gpus in GPUS}
    return {
        "network": size,
        "gpu": kind,
        "images_per_second": rates,
        "cores": {gpus: rate / rate_of_a_core for gpus, rate in rates.items()},
        "cores_per_host": host / rate_of_a_core,
        "hours": {gpus: IMAGENET_22K * EPOCHS_22K / rate / 3600 for gpus, rate in rates.items()},
    }


def rows_of(document: dict, size: str, batch: str, links: int = 1) -> list[dict]:
    """Returns a network's predictions, from the fewest GPUs to the most."""
    wanted = (size, batch, links)
    rows = document["efficiency"]
    return [row for row in rows if (row["network"], row["batch"], row["links"]) == wanted]


def efficiency_table(document: dict) -> Table:
    table = Table("", "batch", *map(str, GPUS), title="efficiency, overlapped (predicted)")
    for size in NETWORKS:
        for batch in ("global", "per GPU"):
            rows = rows_of(document, size, batch)
            table.add_row(size, batch, *(f"{row['efficiency_overlapped']:.1%}" for row in rows))
    return table


def draw(document: dict) -> None:
    """Draws the efficiencies: a panel for each rule of the batch, a colour for each network."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    titles = {
        "global": f"{GLOBAL_BATCH} images in all",
        "per GPU": f"{IMAGES_PER_GPU} images on each GPU",
    }
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (batch, title) in zip(panels, titles.items(), strict=True):
        for number, size in enumerate(NETWORKS):
            rows = rows_of(document, size, batch)
            for key, style in (("efficiency_overlapped", "-"), ("efficiency", ":")):
                axes.plot(
                    [row["gpus"] for row in rows],
                    [100 * row[key] for row in rows],
                    f"o{style}",
                    color=f"C{number}",
                    markersize=4,
                    label=size if style == "-" else None,
                )
        axes.set(xscale="log", xlabel="GPUs", title=title, ylim=(0, 103))
        axes.set_xticks(GPUS, map(str, GPUS))
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("predicted efficiency, %")
    panels[0].legend(fontsize=8, title="ConvNeXt", loc="lower left")
    figure.suptitle(
        "Predicted, with one link of 400 Gb/s from each host. Lines: gradients sent during the "
        "backward pass. Dotted: sent after it.",
        fontsize=9,
    )
    figure.savefig(ROOT / "docs/images/scaling.png", dpi=120)


if __name__ == "__main__":
    main()
