"""Training on several devices with TensorFlow."""
