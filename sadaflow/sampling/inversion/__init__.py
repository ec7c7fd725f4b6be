"""Inversion: from states at the end of a grid to the noise that leads there."""
