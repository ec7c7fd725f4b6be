"""Samples, times and records the cases of a suite."""
