"""Embeddings of time, text and image in Wan."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..embeddings import TimestepEmbedding, sinusoids
from ..streams.feed_forward import gelu
from .config import WanConfig

_IMAGE_EPS = 1e-5


class _TextEmbedding(nn.Module):
    """Two-layer perceptron on the states of the text encoder."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(width, dim), nn.Linear(dim, dim)

    def forward(self, states: Tensor) -> Tensor:
        return self.linear_2(gelu(self.linear_1(states)))


class _Projection(nn.Module):
    """Linear layer followed by exact GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, width)

    def forward(self, states: Tensor) -> Tensor:
        return F.gelu(self.proj(states))


class _FeedForward(nn.Module):
    """Two-layer perceptron on the states of the image encoder."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([_Projection(width), nn.Identity(), nn.Linear(width, dim)])

    def forward(self, states: Tensor) -> Tensor:
        return self.net[2](self.net[0](states))


class _ImageEmbedding(nn.Module):
    """Normed perceptron on the states of the image encoder."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=_IMAGE_EPS), nn.LayerNorm(dim, eps=_IMAGE_EPS)
        self.ff = _FeedForward(width, dim)

    def forward(self, states: Tensor) -> Tensor:
        return self.norm2(self.ff(self.norm1(states)))


class Embedding(nn.Module):
    """Embeds what the blocks are conditioned on.

    Args:
        config: the architecture.
    """

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        self.features = config.freq_dim
        self.time_embedder = TimestepEmbedding(config.freq_dim, config.dim)
        self.time_proj = nn.Linear(config.dim, 6 * config.dim)
        self.text_embedder = _TextEmbedding(config.text_dim, config.dim)
        if config.image_dim is not None:
            self.image_embedder = _ImageEmbedding(config.image_dim, config.dim)

    def times(self, timesteps: Tensor, dtype: torch.dtype) -> Tensor:
        """Embeds times.

        Args:
            timesteps: (...).
            dtype: dtype of the result; the embedding itself has that of its weights.

        Returns:
            (..., 7 dim): six vectors for the blocks, and one for the output.
        """
        weight = self.time_embedder.linear_1.weight
        features = sinusoids(timesteps.flatten(), self.features).to(weight.dtype)
        embedding = self.time_embedder(features).to(dtype)
        return torch.cat((self.time_proj(F.silu(embedding)), embedding), dim=-1).unflatten(0, timesteps.shape)
