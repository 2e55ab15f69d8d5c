"""Predictions for many image files, as the command `predict` makes them."""
