"""Logits of every network of the paper, with weights written by timm and by transformers.

    python benchmarks/weight_parity.py --save

For each size, the other project's network gets random weights of realistic magnitude and is saved
by that project's own code. The file is loaded here, and both networks see the same two images of
64x64 pixels. The tests do this at toy size for every format; this script does it at full size on
each backend. timm has no isotropic networks; transformers' network becomes one without the
LayerNorm of its stem. The last line of output is one JSON document; `--save` also writes it to
`benchmarks/results/weight_parity.json`.
"""

import os
import subprocess
import sys
import tempfile

from common import make_parser, new_document, publish
from rich.console import Console
from rich.table import Table

BACKENDS = ("tensorflow", "jax", "torch")
SIZE = 64


def main() -> None:
    parser = make_parser(__doc__, "weight_parity")
    parser.add_argument("--one", nargs=3, metavar=("PROJECT", "MODEL", "FOLDER"))
    arguments = parser.parse_args()
    if arguments.one:
        write_reference(*arguments.one)
        return

    from keras_convnext.catalog.architectures import VARIANTS

    rows = []
    for name in VARIANTS:
        for project in ("timm", "transformers"):
            if project == "timm" and "isotropic" in name:
                continue
            with tempfile.TemporaryDirectory() as folder:
                run("--one", project, name, folder)
                errors = {backend: compare(name, folder, backend) for backend in BACKENDS}
            rows.append({"model": name, "written_by": project, "relative_error": errors})
            Console(stderr=True).print(tables(rows[-1:]))
    document = new_document("weight_parity", image_size=SIZE, rows=rows)
    publish(document, tables(rows), to_file=arguments.save)


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, __file__, *arguments], check=True)


def write_reference(project: str, name: str, folder: str) -> None:
    """Writes a network of the other project, two images, and its logits for them."""
    import torch
    from safetensors.numpy import save_file

    from keras_convnext.benchmark.torchvision_operations import make_torchvision_importable
    from keras_convnext.catalog.architectures import VARIANTS

    make_torchvision_importable()
    torch.manual_seed(0)
    variant = VARIANTS[name]
    network = of_timm(name) if project == "timm" else of_transformers(variant)
    randomize(network)
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        outputs = network.eval()(images)
    logits = outputs if project == "timm" else outputs.logits
    if project == "timm":
        from safetensors.torch import save_file as save_tensors

        save_tensors(network.state_dict(), f"{folder}/model.safetensors")
    elif variant.stem_norm:
        network.save_pretrained(folder)
    else:  # by the official names, since transformers has no isotropic networks
        torch.save({"model": official_isotropic(network)}, f"{folder}/pytorch_model.bin")
    images = images.permute(0, 2, 3, 1).contiguous().numpy()
    save_file({"images": images, "logits": logits.numpy()}, f"{folder}/expected.safetensors")


def of_timm(name: str):
    import timm

    return timm.create_model(name)


def of_transformers(variant):
    import torch
    import transformers

    config = transformers.ConvNextConfig(
        num_channels=3,
        patch_size=variant.patch_size,
        num_stages=len(variant.depths),
        depths=list(variant.depths),
        hidden_sizes=list(variant.dims),
        num_labels=1000,
        layer_norm_eps=1e-6,  # of the last LayerNorm only; the others have it fixed
        layer_scale_init_value=variant.layer_scale_init_value or 0.0,
    )
    network = transformers.ConvNextForImageClassification(config)
    if not variant.stem_norm:
        network.convnext.embeddings.layernorm = torch.nn.Identity()
    return network


def randomize(network) -> None:
    import torch

    with torch.no_grad():
        for name, weight in network.named_parameters():
            noise = torch.randn(weight.shape)
            if weight.dim() > 1:
                weight.copy_(noise / weight[0].numel() ** 0.5)
            elif name.endswith(("gamma", "layer_scale_parameter")):
                weight.copy_(0.3 + 0.1 * noise)
            else:  # biases, and scale and offset of LayerNorm: around their initial values
                weight.add_(0.2 * noise)


def official_isotropic(network) -> dict:
    """Returns the weights of an isotropic network under the official names."""
    pieces = {
        "convnext.embeddings.patch_embeddings.": "stem.",
        "convnext.encoder.stages.0.layers.": "blocks.",
        "convnext.layernorm.": "norm.",
        "classifier.": "head.",
        ".layernorm.": ".norm.",
        ".layer_scale_parameter": ".gamma",
    }
    renamed = {}
    for name, weight in network.state_dict().items():
        for theirs, official in pieces.items():
            name = name.replace(theirs, official)
        renamed[name] = weight
    return renamed


COMPARE = """
import sys
import numpy as np
from safetensors.numpy import load_file
import keras, keras_convnext
name, folder, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
expected = load_file(f"{folder}/expected.safetensors")
model = keras_convnext.create_model(
    name,
    weights=folder,
    input_shape=(size, size, 3),
    include_preprocessing=False,
    classifier_activation=None,
)
logits = model.predict(expected["images"], verbose=0)
print(np.abs(logits - expected["logits"]).max() / np.abs(expected["logits"]).max())
"""


def compare(name: str, folder: str, backend: str) -> float:
    """Returns the greatest difference of the logits, relative to the greatest logit."""
    process = subprocess.run(
        [sys.executable, "-c", COMPARE, name, folder, str(SIZE)],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(process.stdout.split()[-1])


def tables(rows: list[dict]) -> Table:
    table = Table("network", "written by", *BACKENDS)
    for row in rows:
        errors = [f"{row['relative_error'][backend]:.1e}" for backend in BACKENDS]
        table.add_row(row["model"], row["written_by"], *errors)
    return table


if __name__ == "__main__":
    main()
