"""ConvNeXt on a GPU in bfloat16, on JAX and PyTorch, against timm's eager and compiled.

    python benchmarks/gpu.py --save

Tiny and Base at 224 pixels in batches of 256, forward and train step. The networks run one after
the other, each in a new process, since several do not fit into one GPU's memory. timm runs with
channels last and autocast. Besides images per second, the table shows the share of the GPU's
matrix multiplication speed, which PyTorch measures on large square matrices at the start. Needs
`pip install 'keras-convnext[jax,torch]' timm` with the GPU builds of JAX and PyTorch.

After `--minutes` no further network is started, and the output names those left out. The last line
of output is one JSON document; `--save` also writes it to `benchmarks/results/gpu.json`, after
every network.
"""

import json
import subprocess
import sys
import time

from common import make_parser, new_document, publish, save
from rich.console import Console, Group
from rich.table import Table

from keras_convnext.benchmark.candidates import TIMM, TIMM_COMPILED, candidates
from keras_convnext.benchmark.comparison import compare, label_of
from keras_convnext.catalog.architectures import VARIANTS

MODELS = ("convnext_tiny", "convnext_base")
# The backward pass costs about twice as much as the forward pass.
WORK = {"forward": 1, "train": 3}
# Runs in a new process, so that nothing stays in the GPU's memory.
SPEED_LIMITS = """
import json, sys, time, torch
device, side = sys.argv[1], int(sys.argv[2])

def seconds(call):
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    for _ in range(3):
        call()
    wait()
    started = time.perf_counter()
    for _ in range(10):
        call()
    wait()
    return (time.perf_counter() - started) / 10

matrix = torch.randn(side, side, device=device, dtype=torch.bfloat16)
large = torch.empty(16 * side * side, device=device, dtype=torch.bfloat16)
target = torch.empty_like(large)
print(json.dumps({
    "teraflops": 2 * side**3 / seconds(lambda: matrix @ matrix) / 1e12,
    "terabytes_per_second": 2 * 2 * large.numel() / seconds(lambda: target.copy_(large)) / 1e12,
}))
"""


def main() -> None:
    parser = make_parser(__doc__, "gpu")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--backends", nargs="+", default=["jax", "torch"])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=8, help="start no network after these")
    parser.add_argument("--cpu", action="store_true", help="try the script where there is no GPU")
    arguments = parser.parse_args()

    started = time.monotonic()
    document = new_document("gpu", limits=speed_limits(arguments.cpu), networks=[])
    left_out = []
    for model in arguments.models:
        for candidate in candidates(model, arguments.backends, ["bfloat16"], [TIMM, TIMM_COMPILED]):
            if time.monotonic() - started > 60 * arguments.minutes:
                left_out.append(f"{model}: {candidate.label}")
                continue
            one = compare([candidate], arguments.batch_size, arguments.image_size, arguments.rounds)
            (row,) = one.pop("results")
            document |= one | {"benchmark": "gpu"}
            document["networks"].append(with_share(row, model, document))
            if arguments.save:
                save(document)
    if left_out:
        Console(stderr=True).print(
            f"Left out after {arguments.minutes:g} minutes: {'; '.join(left_out)}."
        )
    publish(document, tables(document), to_file=arguments.save)


def speed_limits(cpu: bool) -> dict[str, float]:
    """Returns the GPU's speed of matrix multiplication and of copying."""
    device, side = ("cpu", "512") if cpu else ("cuda", "8192")
    command = [sys.executable, "-c", SPEED_LIMITS, device, side]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        sys.exit(f"PyTorch could not use the GPU; without one, try --cpu.\n{process.stderr}")
    return json.loads(process.stdout)


def with_share(row: dict, model: str, document: dict) -> dict:
    """Adds to a row the share of the GPU's matrix multiplication speed that it reaches."""
    # The published multiply-adds are for 224 pixels and grow with the area.
    multiply_adds = VARIANTS[model].gmacs_224 * 1e9 * (document["image_size"] / 224) ** 2
    shares = {
        task: 2 * WORK[task] * multiply_adds * rate / 1e12 / document["limits"]["teraflops"]
        for task, rate in row["images_per_second"].items()
    }
    return {**row, "share_of_matrix_products": shares}


def tables(document: dict) -> Group:
    table = Table("network", "forward", "share", "train step", "share", "memory", "first calls")
    for row in document["networks"]:
        cells = []
        for task in WORK:
            cells.append(f"{row['images_per_second'][task]:,.0f} images/s")
            cells.append(f"{row['share_of_matrix_products'][task]:.1%}")
        first = sum(row["first_call_seconds"].values())
        memory = row["train_memory_mib"]
        cells.append("" if memory is None else f"{memory:,.0f} MiB")
        table.add_row(label_of(row), *cells, f"{first:.0f} s")
    limits = document["limits"]
    return Group(
        f"{limits['teraflops']:.0f} TFLOP/s in bfloat16, "
        f"{limits['terabytes_per_second']:.1f} TB/s copied",
        table,
    )


if __name__ == "__main__":
    main()
