"""Training with `model.fit`: the plan, the optimizer, the callbacks and the run's directory."""
