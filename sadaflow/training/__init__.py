"""Training of the embedded checkpoints; needs the extra `sadaflow[train]`."""
