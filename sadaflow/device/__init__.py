"""Indices, readback and timing on a device, without waiting for it where that can be avoided."""
