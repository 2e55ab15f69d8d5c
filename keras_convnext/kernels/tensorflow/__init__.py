"""Implementations of the operations for TensorFlow."""
