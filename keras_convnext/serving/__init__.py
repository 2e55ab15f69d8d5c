"""Using a trained classifier: predictions here, and a SavedModel for elsewhere."""
