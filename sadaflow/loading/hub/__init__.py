"""Finds, downloads and writes checkpoints in the Hub's layout."""
