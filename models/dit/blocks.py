"""Blocks of DiT: self-attention and feed-forward, each with shift, scale and gate computed from time and label."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import Attention, attend
from ..embeddings import TimestepEmbedding, sinusoids
from ..seam import Seam, Site
from ..streams.feed_forward import FeedForward
from ..streams.modulation import modulated, parts_of

_FEATURES = 256


class _LabelEmbedding(nn.Module):
    """Embedding of class labels and of the null label, the last."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, dim)

    def forward(self, labels: Tensor) -> Tensor:
        return self.embedding_table(labels)


class _Embedding(nn.Module):
    """Sum of the embeddings of time and label; published checkpoints hold the same one in every block."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.timestep_embedder = TimestepEmbedding(_FEATURES, dim)
        self.class_embedder = _LabelEmbedding(classes, dim)

    def forward(self, timesteps: Tensor, labels: Tensor) -> Tensor:
        """Maps timesteps (S, 1 or B) and labels (B,) to (S, B, dim)."""
        features = sinusoids(timesteps.flatten().float(), _FEATURES, shift=1.0).unflatten(0, timesteps.shape)
        weight = self.class_embedder.embedding_table.weight
        return self.timestep_embedder(features.to(weight.dtype)) + self.class_embedder(labels)


class _Norm(nn.Module):
    """Embedding, and the layer that computes the block's six modulation vectors from it."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.emb = _Embedding(classes, dim)
        self.linear = nn.Linear(dim, 6 * dim)


class DiTBlock(nn.Module):
    """Self-attention, then feed-forward, with adaptive norms that start as zero (adaLN-Zero).

    Args:
        dim: width of the tokens.
        heads: number of heads.
        classes: number of class labels.
        bias: whether queries, keys and values have a bias.
        eps: epsilon of the norm before the feed-forward.
    """

    regions: ClassVar[tuple[str, ...]] = ("enter", "leave")
    parts: ClassVar[int] = 6

    def __init__(self, dim: int, heads: int, classes: int, bias: bool, eps: float) -> None:
        super().__init__()
        self.norm1 = _Norm(classes, dim)
        self.attn1 = Attention(dim, heads, bias=bias)
        self.ff = FeedForward(dim)
        self.eps = eps

    def modulations(self, timesteps: Tensor, labels: Tensor) -> Tensor:
        """Computes the block's modulations (S, B, 6 dim) for timesteps (S, 1 or B) and labels (B,)."""
        return self.norm1.linear(F.silu(self.norm1.emb(timesteps, labels)))

    def first_look(self, tokens: Tensor, modulations: Tensor) -> Tensor:
        """Computes the normed and modulated tokens (B, N, dim) that attention reads."""
        return modulated(tokens, *parts_of(modulations, self.parts)[:2])

    def forward(self, tokens: Tensor, modulations: Tensor, *, seam: Seam, site: Site) -> Tensor:
        """Runs the block.

        Args:
            tokens: (B, N, dim).
            modulations: (B, 6 dim).
            seam: called at the attention.
            site: the block's site.

        Returns:
            (B, N, dim).
        """
        attended = seam(site.attention("attn1"), attend, *self.enter(tokens, modulations))
        return self.leave(tokens, attended, modulations)

    def enter(self, tokens: Tensor, modulations: Tensor) -> Sequence[Tensor]:
        """Computes query, key and value."""
        return self.attn1.project(self.first_look(tokens, modulations))

    def leave(self, tokens: Tensor, attended: Tensor, modulations: Tensor) -> Tensor:
        """Computes everything after the attention."""
        _, _, attention_gate, shift, scale, gate = parts_of(modulations, self.parts)
        tokens = torch.addcmul(tokens, attention_gate, self.attn1.leave(attended))
        return torch.addcmul(tokens, gate, self.ff(modulated(tokens, shift, scale, eps=self.eps)))
