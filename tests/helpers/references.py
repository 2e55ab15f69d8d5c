"""Optimizers of PyTorch and timm, and timm's EMA, with their own parameters."""

import math

import keras
import timm.optim
import torch
from timm.utils import ModelEmaV2

from keras_convnext.optimizers import LAMB, SGD, AdamW

# By name: ours, theirs, and the arguments that make them equal.
KINDS = {
    "adamw": (AdamW, torch.optim.AdamW, {}, {"eps": 1e-8}),
    "amsgrad": (AdamW, torch.optim.AdamW, {"amsgrad": True}, {"eps": 1e-8, "amsgrad": True}),
    "lamb": (LAMB, timm.optim.Lamb, {}, {"max_grad_norm": None}),
    "sgd": (SGD, torch.optim.SGD, {}, {"momentum": 0.9}),
    "nesterov": (SGD, torch.optim.SGD, {"nesterov": True}, {"momentum": 0.9, "nesterov": True}),
    "without momentum": (SGD, torch.optim.SGD, {"momentum": 0.0}, {}),
}


def warmup_cosine(update, peak, total, warmup, final=1e-6):
    """The official `utils.cosine_scheduler` at one update, in double precision."""
    if update < warmup:
        return peak * update / (warmup - 1)
    cosine = math.cos(math.pi * (update - warmup) / (total - warmup))
    return final + 0.5 * (peak - final) * (1 + cosine)


class Reference:
    """An optimizer of PyTorch or timm, with accumulation, clipping and an EMA."""

    def __init__(self, kind, parameters, weight_decay, average_decay, scales=None, clip_norm=None):
        _, optimizer, _, arguments = KINDS[kind]
        self.parameters = torch.nn.ParameterList(parameters)
        self.scales = scales or [1.0] * len(self.parameters)
        self.clip_norm = clip_norm
        groups = [
            {"params": [parameter], "weight_decay": weight_decay if parameter.dim() > 1 else 0.0}
            for parameter in self.parameters
        ]
        self.optimizer = optimizer(groups, lr=0.0, **arguments)
        self.average = ModelEmaV2(self.parameters, average_decay)

    def update(self, losses, rate):
        """Makes one update from the losses of its steps."""
        self.optimizer.zero_grad()
        for loss in losses:
            (loss / len(losses)).backward()
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        for group, scale in zip(self.optimizer.param_groups, self.scales, strict=True):
            group["lr"] = rate * scale
        self.optimizer.step()
        self.average.update(self.parameters)

    def averages(self):
        return list(self.average.module)


def to_torch(variable):
    return torch.tensor(keras.ops.convert_to_numpy(variable).copy())
