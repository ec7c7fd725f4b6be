"""Loads single files in the original layouts of their authors; model configurations are inferred from tensor shapes."""
