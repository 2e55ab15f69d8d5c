"""The ConvNeXt of Hugging Face's `transformers`, on PyTorch, as the truth to compare with."""

import numpy as np
from comparison import zeros_for_random_values

import keras_convnext

# Keras layer inside a block -> name in transformers.
BLOCK_PARTS = {
    "depthwise_conv": "dwconv",
    "norm": "layernorm",
    "pointwise_conv_1": "pwconv1",
    "pointwise_conv_2": "pwconv2",
}
WHOLE_LAYERS = {
    "stem/conv": "convnext.embeddings.patch_embeddings",
    "stem/norm": "convnext.embeddings.layernorm",
    "head_norm": "convnext.layernorm",
    "head": "classifier",
}


def reference_model(depths, dims, classes, seed=0):
    """Returns the reference network; all its weights are random and large enough to matter."""
    import torch
    import transformers

    config = transformers.ConvNextConfig(
        depths=list(depths),
        hidden_sizes=list(dims),
        num_stages=len(depths),
        num_labels=classes,
        hidden_act="gelu",
        layer_norm_eps=1e-6,  # of the last LayerNorm only; the others have it fixed
    )
    model = transformers.ConvNextForImageClassification(config).eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=random)
            if weight.dim() > 1:
                weight.copy_(noise / weight[0].numel() ** 0.5)
            elif name.endswith("layer_scale_parameter"):
                weight.copy_(0.5 + 0.1 * noise)
            else:  # biases, and scale and offset of LayerNorm: around what they start at
                weight.add_(0.2 * noise)
    return model


def reference_name(path):
    """Returns what transformers calls the weight with this path in Keras."""
    layer, weight = path.rsplit("/", 1)
    weight = {"kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias"}[weight]
    if layer in WHOLE_LAYERS:
        return f"{WHOLE_LAYERS[layer]}.{weight}"
    layer, part = layer.split("/")
    _, stage, kind, *block = layer.split("_")
    prefix = f"convnext.encoder.stages.{stage}"
    if kind == "downsampling":
        return f"{prefix}.downsampling_layer.{('norm', 'conv').index(part)}.{weight}"
    prefix = f"{prefix}.layers.{block[0]}"
    if part == "layer_scale":
        return f"{prefix}.layer_scale_parameter"
    return f"{prefix}.{BLOCK_PARTS[part]}.{weight}"


def in_keras_layout(path, tensor):
    """Returns a weight of the reference, or its gradient, as Keras arranges it."""
    array = tensor.detach().numpy()
    if path.endswith("depthwise_conv/kernel"):
        return array.transpose(2, 3, 0, 1)
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    return array.T


def network_pair(depths, dims, classes, input_shape, **arguments):
    """Returns the reference and the Keras network with its weights, both giving logits."""
    reference = reference_model(depths, dims, classes)
    with zeros_for_random_values():
        model = keras_convnext.ConvNeXt(
            depths,
            dims,
            classes=classes,
            include_preprocessing=False,
            classifier_activation=None,
            input_shape=input_shape,
            **arguments,
        )
    copy_weights(reference, model)
    return reference, model


def copy_weights(reference, model):
    """Puts the reference's weights into the Keras model: every weight of either takes part."""
    weights = dict(reference.named_parameters())
    names = {weight.path: reference_name(weight.path) for weight in model.weights}
    assert sorted(names.values()) == sorted(weights)
    for weight in model.weights:
        weight.assign(in_keras_layout(weight.path, weights[names[weight.path]]))


def channels_first(images):
    """Returns NumPy images as the PyTorch tensor that the reference takes."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
