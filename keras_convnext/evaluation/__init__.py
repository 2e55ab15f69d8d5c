"""The quality of a classifier, in figures and in pictures."""
