"""What the blocks of different architectures differ in."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """Differences between the blocks of architectures.

    Attributes:
        bias: whether linear layers have a bias.
        modulated: whether a block computes its own modulations from the embedding; otherwise the network does.
        normed: whether queries and keys are RMS-normed per head.
        gated: inner width of a SiLU-gated feed-forward in multiples of the tokens' width; None is GELU at 4.
    """

    bias: bool = True
    modulated: bool = True
    normed: bool = True
    gated: float | None = None
