"""Kinds of training, such as image classification, behind one interface."""
