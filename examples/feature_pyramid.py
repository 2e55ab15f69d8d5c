"""Prints the feature maps of every stage, for a detection or segmentation network.

python examples/feature_pyramid.py
"""

import numpy as np

import keras_convnext

backbone = keras_convnext.ConvNeXtTiny(include_top=False)
pyramid = keras_convnext.feature_pyramid(backbone)
images = np.random.default_rng(0).uniform(0, 255, (1, 256, 320, 3)).astype("float32")
for level, features in pyramid(images).items():
    print(level, tuple(features.shape))
