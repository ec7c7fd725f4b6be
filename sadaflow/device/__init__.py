"""Indexing, readback and timing on a device, without unnecessary waits for it."""
