"""Accelerators that take parts of the network from a cache."""
