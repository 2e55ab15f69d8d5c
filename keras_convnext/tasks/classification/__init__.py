"""Image classification: one class an image, or independent probabilities of several."""
