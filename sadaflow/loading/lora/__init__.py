"""Reads LoRA files and merges them into a network's weights."""
