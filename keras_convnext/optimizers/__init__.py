"""The optimizers of the recipes, each usable in your own `model.compile`."""

from keras_convnext.optimizers.adamw import AdamW as AdamW
from keras_convnext.optimizers.lamb import LAMB as LAMB
from keras_convnext.optimizers.sgd import SGD as SGD
