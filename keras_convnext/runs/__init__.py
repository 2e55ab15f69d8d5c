"""The files of a run: recipe, plan, metrics, checkpoints, and how a run resumes."""
