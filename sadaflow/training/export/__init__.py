"""Writes trained networks as checkpoints in the Hub's layout, with their cards."""
