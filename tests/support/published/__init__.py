"""Published checkpoints: their JSON files, and scaled-down copies with random weights."""
