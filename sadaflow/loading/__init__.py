"""Reads checkpoints from folders, single files and the Hub."""
