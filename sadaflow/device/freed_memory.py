"""Keeps glibc from returning the memory of activations to the system after every layer, only to ask for it again.

glibc returns freed memory at the top of the heap once it exceeds a threshold, and each page that comes back costs a
page fault: 5,000 an evaluation of tiny-sd in batches of four, a fifth of its seconds. The threshold follows the
largest block that the process has freed (mallopt(3), M_TRIM_THRESHOLD), so freeing one large block raises it.
"""

from typing import Final

import torch

_LARGEST: Final = 32 * 2**20
"""glibc's DEFAULT_MMAP_THRESHOLD_MAX on 64 bits: larger blocks do not move the threshold."""


def retain_freed_memory(device: torch.device) -> None:
    """Lets the process keep up to 64 MiB of freed memory, where networks compute on the CPU.

    Under another allocator, or where the user has set glibc's thresholds, it changes nothing.

    Args:
        device: Where the networks compute.
    """
    if device.type == "cpu":
        bytearray(_LARGEST - 2**16)  # mapped and freed, never touched
