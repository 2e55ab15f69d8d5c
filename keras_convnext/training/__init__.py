"""Training with `model.fit`: the network, the optimizer and the callbacks of a recipe."""
