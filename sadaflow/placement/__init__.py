"""Where weights are kept: on the device, in host memory, on disk, in eight bits."""
