"""Tables of architectures, published checkpoints and classes. Nothing here imports a backend."""
