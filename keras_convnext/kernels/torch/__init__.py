"""Implementations of the operations for PyTorch."""
