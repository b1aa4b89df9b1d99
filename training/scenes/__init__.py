"""Drawn scenes with captions that are exactly true, for training the picture model."""
