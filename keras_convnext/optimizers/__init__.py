"""Optimizers the recipes use, each usable in a `model.compile` of one's own."""

from keras_convnext.optimizers.adamw import AdamW as AdamW
from keras_convnext.optimizers.lamb import LAMB as LAMB
from keras_convnext.optimizers.sgd import SGD as SGD
