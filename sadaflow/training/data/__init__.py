"""Captions and emoji that the embedded checkpoints are trained on."""
