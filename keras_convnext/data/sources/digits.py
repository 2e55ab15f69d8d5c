"""scikit-learn's scanned digits, a data set that needs no download."""

import numpy as np

from keras_convnext.data.sources.split import ArraySplit
from keras_convnext.errors import MissingPackage


def digits(test_fraction: float = 0.2, seed: int = 0) -> tuple[ArraySplit, ArraySplit]:
    """Returns scikit-learn's 1,797 scanned digits of 8x8 pixels in two splits.

    Args:
        test_fraction: Fraction of the images in the second split; the classes keep their shares.
        seed: Seed of the split.

    Returns:
        The training images and the validation images.

    Raises:
        MissingPackage: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise MissingPackage("scikit-learn, which holds the digits,", "train") from None
    images, labels = load_digits(return_X_y=True)
    grey = np.round(images * (255 / 16)).astype("uint8").reshape(-1, 8, 8, 1)
    rgb = np.repeat(grey, 3, axis=-1)
    names = tuple(str(digit) for digit in range(10))
    train, test = (
        ArraySplit(rgb[part], labels[part].astype("int32"), names)
        for part in train_test_split(
            np.arange(len(labels)), test_size=test_fraction, random_state=seed, stratify=labels
        )
    )
    return train, test
