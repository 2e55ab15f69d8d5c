"""Implementations of the operations for JAX on CPU that call oneDNN."""
