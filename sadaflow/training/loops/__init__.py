"""Training loops of the networks of the embedded checkpoints."""
