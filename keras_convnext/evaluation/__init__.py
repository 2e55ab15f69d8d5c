"""How good a classifier is, in numbers and in pictures."""
