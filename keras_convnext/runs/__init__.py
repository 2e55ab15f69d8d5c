"""What a run leaves in its directory: recipe, plan, metrics, checkpoints."""
