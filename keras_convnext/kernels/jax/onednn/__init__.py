"""Implementations of the operations that call JAX's oneDNN on CPU."""
