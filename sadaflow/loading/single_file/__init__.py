"""Checkpoints of one file in the layouts of their authors; configs are told by the tensors' shapes, never fetched."""
