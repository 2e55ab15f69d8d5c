"""Exports of trained models, and predictions for image files."""
