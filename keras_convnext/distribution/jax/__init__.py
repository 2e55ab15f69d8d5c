"""Training on several devices with JAX."""
