"""The ConvNeXt of timm, transformers, torchvision and keras.applications, at one toy size.

All their weights are random and large enough to matter. Nothing here is this package's own.
"""

import functools

import keras
import numpy as np
import torch
from comparison import zeros_for_random_values

DEPTHS = (1, 1, 2, 1)
DIMS = (8, 16, 24, 32)
CLASSES = 5
SIZE = (75, 101)  # leaves rows and columns out in the stem and in every downsampling
ISOTROPIC = {"depth": 2, "dim": 16, "patch_size": 8}


def images(*size, seed=0):
    """Returns a batch of two images, normalised as the networks take them."""
    random = np.random.default_rng(seed)
    return random.normal(size=(2, *(size or SIZE), 3)).astype("float32")


def logits(network, batch=None):
    """Returns what a network of PyTorch gives for images in the layout of Keras."""
    batch = images() if batch is None else batch
    with torch.no_grad():
        outputs = network.eval()(torch.from_numpy(batch.transpose(0, 3, 1, 2).copy()))
    if hasattr(outputs, "keys"):  # those of transformers
        outputs = outputs["logits"] if "logits" in outputs else outputs["pooler_output"]
    return outputs.numpy()


def randomized(network, seed=0):
    """Gives a network of PyTorch random weights."""
    state_dict = {name: weight.shape for name, weight in network.state_dict().items()}
    network.load_state_dict(random_state_dict(state_dict, seed), strict=True)
    return network


def random_state_dict(shapes, seed=0):
    """Returns random tensors in PyTorch's layout: names to shapes become names to tensors."""
    random = torch.Generator().manual_seed(seed)

    def values(name, shape):
        noise = torch.randn(shape, generator=random)
        if name.endswith(("gamma", "layer_scale", "layer_scale_parameter")):
            return 0.5 + 0.1 * noise
        if len(shape) > 1:
            return noise / (noise[0].numel() ** 0.5)
        # Scale and offset of LayerNorm, and biases; no two of them are about the same value.
        return 0.2 * noise + (0.7 if name.endswith("weight") else -0.3)

    return {name: values(name, tuple(shape)) for name, shape in shapes.items()}


def timm_network(classes=CLASSES, **arguments):
    from timm.models.convnext import ConvNeXt

    arguments = {"ls_init_value": 0.5, **arguments}
    return randomized(ConvNeXt(depths=DEPTHS, dims=DIMS, num_classes=classes, **arguments))


def transformers_network(classes=CLASSES, depths=DEPTHS, dims=DIMS, **arguments):
    """The classifier, or without classes the model under it."""
    import transformers

    config = transformers.ConvNextConfig(
        depths=list(depths),
        hidden_sizes=list(dims),
        num_stages=len(depths),
        num_labels=classes or 2,
        layer_norm_eps=1e-6,  # of the last LayerNorm only; the others have it fixed
        **arguments,
    )
    if classes:
        return randomized(transformers.ConvNextForImageClassification(config))
    return randomized(transformers.ConvNextModel(config))


def torchvision_network(classes=CLASSES):
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    stages = [
        CNBlockConfig(dim, next_dim, depth)
        for dim, next_dim, depth in zip(DIMS, [*DIMS[1:], None], DEPTHS, strict=True)
    ]
    return randomized(ConvNeXt(stages, num_classes=classes, layer_scale=0.5))


def official_network(state_dict):
    """timm's network with a state dict of the official code: timm translates the names itself."""
    from timm.models.convnext import checkpoint_filter_fn

    classes = len(state_dict["head.bias"]) if "head.bias" in state_dict else 0
    network = timm_network(classes)
    network.load_state_dict(checkpoint_filter_fn(state_dict, network), strict=True)
    return network


def official_shapes(depths=DEPTHS, dims=DIMS, classes=CLASSES):
    """Returns the names of the official code's weights with their shapes, by its `ConvNeXt`."""

    def layer(name, *kernel):
        return {f"{name}.weight": kernel, f"{name}.bias": kernel[:1]}

    shapes = layer("downsample_layers.0.0", dims[0], 3, 4, 4)
    shapes |= layer("downsample_layers.0.1", dims[0])
    for i in range(1, len(dims)):
        shapes |= layer(f"downsample_layers.{i}.0", dims[i - 1])
        shapes |= layer(f"downsample_layers.{i}.1", dims[i], dims[i - 1], 2, 2)
    for s, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
        for b in range(depth):
            shapes |= _block_shapes(f"stages.{s}.{b}", dim, layer_scale=True)
    shapes |= layer("norm", dims[-1])
    return shapes | (layer("head", classes, dims[-1]) if classes else {})


def official_isotropic_shapes(depth, dim, patch_size, layer_scale, classes=CLASSES):
    """The same by its `ConvNeXtIsotropic`."""
    shapes = {"stem.weight": (dim, 3, patch_size, patch_size), "stem.bias": (dim,)}
    for b in range(depth):
        shapes |= _block_shapes(f"blocks.{b}", dim, layer_scale)
    shapes |= {"norm.weight": (dim,), "norm.bias": (dim,)}
    return shapes | {"head.weight": (classes, dim), "head.bias": (classes,)}


def _block_shapes(block, dim, layer_scale):
    shapes = {
        f"{block}.dwconv.weight": (dim, 1, 7, 7),
        f"{block}.dwconv.bias": (dim,),
        f"{block}.norm.weight": (dim,),
        f"{block}.norm.bias": (dim,),
        f"{block}.pwconv1.weight": (4 * dim, dim),
        f"{block}.pwconv1.bias": (4 * dim,),
        f"{block}.pwconv2.weight": (dim, 4 * dim),
        f"{block}.pwconv2.bias": (dim,),
    }
    return shapes | ({f"{block}.gamma": (dim,)} if layer_scale else {})


def isotropic_network(state_dict):
    """The network of transformers with a state dict of the official isotropic code."""
    names = {
        "stem": "convnext.embeddings.patch_embeddings",
        "norm": "convnext.layernorm",
        "head": "classifier",
    }
    block_names = {"norm": "layernorm", "gamma": "layer_scale_parameter"}

    def name_of(name):
        first, *rest = name.split(".")
        if first != "blocks":
            return ".".join([names[first], *rest])
        block, part, *rest = rest
        part = block_names.get(part, part)
        return ".".join(["convnext.encoder.stages.0.layers", block, part, *rest])

    network = transformers_network(
        depths=[ISOTROPIC["depth"]],
        dims=[ISOTROPIC["dim"]],
        patch_size=ISOTROPIC["patch_size"],
        layer_scale_init_value=0.5 if "blocks.0.gamma" in state_dict else 0.0,
    )
    network.convnext.embeddings.layernorm = torch.nn.Identity()
    state_dict = {name_of(name): tensor for name, tensor in state_dict.items()}
    network.load_state_dict(state_dict, strict=True)
    return network


def keras_network(include_top=True):
    """The ConvNeXt of keras.applications; it normalises images from 0 to 255 itself."""
    from keras.src.applications.convnext import ConvNeXt

    with zeros_for_random_values():
        network = ConvNeXt(
            depths=DEPTHS,
            projection_dims=DIMS,
            name="convnext_tiny",  # as its published networks are called
            input_shape=(*SIZE, 3),
            include_top=include_top,
            pooling=None if include_top else "avg",
            classes=CLASSES,
            classifier_activation=None,
            layer_scale_init_value=0.5,
        )
    set_random_weights(network)
    return network


def raw_images():
    """Returns `images()` as they were before they were normalised."""
    mean, deviation = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]) * 255
    return (images() * deviation + mean).astype("float32")


def set_random_weights(model, seed=0):
    """Gives a Keras model random weights that are large enough to matter."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        shape = tuple(variable.shape)
        noise = random.normal(size=shape)
        if len(shape) > 1:
            fan_in = 49 if shape[:2] == (7, 7) else np.prod(shape[:-1])
            variable.assign((noise / fan_in**0.5).astype("float32"))
        else:
            scales = variable.path.endswith("gamma") or "layer_scale" in variable.path
            offset = 0.7 if scales else 0.0
            variable.assign((offset + 0.2 * noise).astype("float32"))


def weights_of(model):
    """Returns the values of all weights of a Keras model by their paths."""
    return {v.path: np.array(keras.ops.convert_to_numpy(v)) for v in model.weights}


def assert_same_weights(actual, expected):
    assert actual.keys() == expected.keys()
    assert len(actual) > 0
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)


# Networks that are only read: made once.
OTHERS = {
    "timm": functools.cache(timm_network),
    "timm with 1x1 convolutions": functools.cache(lambda: timm_network(conv_mlp=True)),
    "transformers": functools.cache(transformers_network),
    "torchvision": functools.cache(torchvision_network),
}
HEADLESS = {
    "timm": functools.cache(lambda: timm_network(classes=0)),
    "transformers": functools.cache(lambda: transformers_network(classes=0)),
}
