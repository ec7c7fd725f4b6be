"""Published limits of NVIDIA cards: dense bfloat16 tensor-core operations and memory bandwidth."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """Published limits of a card.

    Attributes:
        flops: Dense bfloat16 operations per second, with float32 accumulation.
        bytes: Memory bandwidth in bytes per second.
    """

    name: str
    flops: float
    bytes: float


# NVIDIA's data sheets, whose tensor-core figures with sparsity are halved. Matched in this order, as whole
# words of the device's name.
_CARDS = (
    Card("B200", 2250e12, 8.0e12),  # Blackwell architecture brief, HGX B200, per GPU
    Card("H200", 989e12, 4.8e12),  # H200 data sheet, SXM
    Card("H100 PCIe", 756e12, 2.0e12),  # H100 data sheet, PCIe
    Card("H100 NVL", 835e12, 3.9e12),  # H100 data sheet, NVL
    Card("H100", 989e12, 3.35e12),  # H100 data sheet, SXM ("H100 80GB HBM3")
    Card("A100-SXM4-80GB", 312e12, 2.039e12),  # A100 data sheet
    Card("A100", 312e12, 1.555e12),  # A100 data sheet, 40 GB
    Card("L40S", 362e12, 0.864e12),  # L40S data sheet
    Card("L4", 121e12, 0.3e12),  # L4 data sheet
    Card("A10", 125e12, 0.6e12),  # A10 data sheet
    Card("RTX 5090", 209.5e12, 1.792e12),  # RTX Blackwell architecture paper, appendix A
    Card("RTX 4090", 165.2e12, 1.008e12),  # Ada architecture paper, appendix A
    Card("RTX 3090", 71e12, 0.936e12),  # Ampere GA102 architecture paper, appendix A
)


def card_for(name: str) -> Card | None:
    """Returns the limits of the device that CUDA calls `name`; None if they are unknown."""
    return next((card for card in _CARDS if re.search(rf"\b{re.escape(card.name)}\b", name)), None)
