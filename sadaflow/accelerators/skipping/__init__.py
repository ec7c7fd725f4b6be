"""Accelerators that leave out whole evaluations."""
