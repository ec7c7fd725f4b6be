"""What the Stable Diffusion 3 transformer and its ControlNets have in common: embeddings of prompt and time, blocks."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..embeddings import TimestepEmbedding, sinusoids
from ..seam import Seam
from ..streams.modulation import Modulation
from ..streams.stack import run_blocks
from ..streams.steering import Residuals
from .block import ImageBlock, JointBlock
from .config import PATCH, SD3Config

_FEATURES = 256


class Patches(nn.Module):
    """Embeds patches of the latents, and adds the middle of a stored grid of positions.

    Args:
        channels: channels of the latents.
        dim: width of the tokens.
        side: side of the grid in tokens; None for no positions.
    """

    pos_embed: Tensor

    def __init__(self, channels: int, dim: int, side: int | None) -> None:
        super().__init__()
        self.side = side
        self.proj = nn.Conv2d(channels, dim, PATCH, PATCH)
        if side is not None:
            self.register_buffer("pos_embed", torch.zeros(1, side**2, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Maps latents (B, C, h, w) to tokens (B, h*w/4, dim).

        Raises:
            ValueError: if h or w is odd, or larger than the stored grid of positions.
        """
        (height, width), side = x.shape[-2:], self.side
        if height % PATCH or width % PATCH:
            raise ValueError(f"latents have {height}x{width} positions; multiples of {PATCH} are needed")
        tokens = self.proj(x).flatten(2).mT
        if side is None:
            return tokens
        if max(height, width) > PATCH * side:
            raise ValueError(
                f"latents have {height}x{width} positions; the network has {PATCH * side}x{PATCH * side} "
                "(pos_embed_max_size)"
            )
        height, width = height // PATCH, width // PATCH
        top, left = (side - height) // 2, (side - width) // 2
        grid = self.pos_embed.unflatten(1, (side, side))[:, top : top + height, left : left + width]
        return tokens + grid.flatten(1, 2)


class _Embedding(nn.Module):
    """Embedders of time and pooled text; modulations use the sum."""

    def __init__(self, config: SD3Config) -> None:
        super().__init__()
        self.timestep_embedder = TimestepEmbedding(_FEATURES, config.dim)
        self.text_embedder = TimestepEmbedding(config.pooled_projection_dim, config.dim)


class SD3Streams(nn.Module):
    """Embeddings and blocks of Stable Diffusion 3.

    Args:
        config: the architecture.
        blocks: the blocks.
    """

    def __init__(self, config: SD3Config, blocks: Sequence[JointBlock | ImageBlock]) -> None:
        super().__init__()
        self.config = config
        self.time_text_embed = _Embedding(config)
        self.transformer_blocks = nn.ModuleList(blocks)

    @property
    def modulations(self) -> list[Modulation]:
        """The layers whose outputs `prepare_times` concatenates."""
        return [layer for block in self._blocks for layer in block.modulations]

    @property
    def time_width(self) -> int:
        """Width of the output of `prepare_times`."""
        return sum(layer.linear.out_features for layer in self.modulations)

    def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Computes the modulations of all blocks.

        Args:
            timesteps: (S, 1) or (S, B), timesteps of S steps.
            given: "pooled", the embedding (B, dim) of the pooled text.

        Returns:
            (S, B, width).
        """
        pooled = given["pooled"]
        features = sinusoids(timesteps.flatten(), _FEATURES).to(pooled.dtype)
        embedding = self.time_text_embed.timestep_embedder(features).unflatten(0, timesteps.shape)
        activated = F.silu(embedding + pooled)
        return torch.cat([layer(activated) for layer in self.modulations], dim=-1)

    @property
    def _blocks(self) -> list[JointBlock | ImageBlock]:
        return list(self.transformer_blocks)  # type: ignore[arg-type]

    def _trunk(
        self,
        image: Tensor,
        text: Tensor,
        modulations: Tensor,
        *,
        seam: Seam,
        size: tuple[int, int],
        residuals: Residuals | None = None,
    ) -> Tensor:
        """Runs all blocks on the joint sequence and returns the image tokens (B, N, dim)."""
        blocks = {f"transformer_blocks.{index}": block for index, block in enumerate(self._blocks)}
        own = modulations.split([block.parts * self.config.dim for block in blocks.values()], dim=-1)
        return run_blocks(blocks, (text, image), own, (), seam, size, residuals)


def joint_blocks(config: SD3Config, *, ends: bool) -> list[JointBlock]:
    """Builds the blocks of a config.

    Args:
        config: the architecture.
        ends: whether the last block reads the text for the last time.
    """
    return [
        JointBlock(
            config.dim,
            config.num_attention_heads,
            normed=config.qk_norm is not None,
            dual=index in config.dual_attention_layers,
            last=ends and index == config.num_layers - 1,
        )
        for index in range(config.num_layers)
    ]
