"""Implementations of the operations for JAX."""
