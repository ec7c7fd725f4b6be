"""DiT (Peebles & Xie 2023, arXiv 2212.09748), with the parameter names of the Hub's DiTTransformer2DModel."""

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import ClassVar, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..embeddings import single_time
from ..seam import Seam, Site, call_through
from ..streams.modulation import modulated
from .blocks import DiTBlock
from .config import OWNER, DiTConfig


class _PatchEmbedding(nn.Module):
    """Projection of the patches of the latents to tokens."""

    def __init__(self, channels: int, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, h, w) to (B, N, dim)."""
        return self.proj(x).flatten(2).transpose(1, 2)


class DiT(nn.Module):
    """Class-conditional transformer on latents (B, C, h, w); what it predicts depends on its checkpoint.

    A learned variance, the second half of the output's channels, is left out: the samplers here do not use it.

    `forward` runs three parts: `prepare` depends only on the labels, `prepare_times` on labels and time, `evaluate`
    also on x.

    Sites: the stack of blocks is a "trunk" with `fn(tokens, modulations)` on tokens (B, N, dim) and the modulations of
    all blocks (B, width). Inside it, each block is a "block" with its own modulations, and its attention an
    "attention".

    Args:
        config: the architecture.
    """

    sites: ClassVar[frozenset[str]] = frozenset({"trunk", "block", "attention"})
    """Kinds of sites in this network."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        dim, heads = config.dim, config.num_attention_heads
        self.pos_embed = _PatchEmbedding(config.in_channels, dim, config.patch_size)
        self.transformer_blocks = nn.ModuleList(
            [
                DiTBlock(dim, heads, config.num_embeds_ada_norm, config.attention_bias, config.norm_eps)
                for _ in range(config.num_layers)
            ]
        )
        self.proj_out_1 = nn.Linear(dim, 2 * dim)
        self.proj_out_2 = nn.Linear(dim, config.patch_size**2 * config.predicted_channels)

    @property
    def null_label(self) -> int:
        """The label that stands for none, for the negative branch of guidance."""
        return self.config.num_embeds_ada_norm

    def forward(self, x: Tensor, timestep: Tensor | float, class_labels: Tensor, seam: Seam = call_through) -> Tensor:
        """Computes the prediction.

        Args:
            x: (B, C, h, w), h and w multiples of the patch size.
            timestep: in the network's units, a number or (B,).
            class_labels: (B,), whole numbers.
            seam: called at each site.

        Returns:
            Prediction (B, C, h, w).

        Raises:
            ValueError: if h or w is not a multiple of the patch size.
        """
        given = self.prepare(class_labels=class_labels)
        time = self.prepare_times(single_time(timestep, x.device), given)[0]
        return self.evaluate(x, time, given, seam)

    def prepare(self, *, class_labels: Tensor) -> dict[str, Tensor]:
        """Returns the labels (B,), which every block embeds by itself, as "labels"."""
        return {"labels": class_labels}

    def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Computes the modulations of all blocks and of the last layer.

        Args:
            timesteps: (S, 1) or (S, B), timesteps of S steps.
            given: output of `prepare`.

        Returns:
            (S, B, width).
        """
        blocks = [cast(DiTBlock, block) for block in self.transformer_blocks]
        own = [block.modulations(timesteps, given["labels"]) for block in blocks]
        last = self.proj_out_1(F.silu(blocks[0].norm1.emb(timesteps, given["labels"])))
        return torch.cat([*own, last], dim=-1)

    def evaluate(self, x: Tensor, time: Tensor, given: Mapping[str, Tensor], seam: Seam = call_through) -> Tensor:
        """Computes the prediction at x.

        Args:
            x: (B, C, h, w), h and w multiples of the patch size.
            time: (B, width), one step of `prepare_times`.
            given: output of `prepare`, with the rows of x.
            seam: called at each site.

        Returns:
            Prediction (B, C, h, w).

        Raises:
            ValueError: if h or w is not a multiple of the patch size.
        """
        (height, width), patch, dim = x.shape[-2:], self.config.patch_size, self.config.dim
        if height % patch or width % patch:
            raise ValueError(f"x has {height}x{width} positions; {OWNER} needs multiples of {patch}")
        size = (height // patch, width // patch)
        table = positions if torch.compiler.is_compiling() else _known_positions
        tokens = self.pos_embed(x)
        tokens = tokens + table(size, self.config.sample_size // patch, dim, x.device).to(tokens.dtype)
        modulations, last = time.split((time.shape[-1] - 2 * dim, 2 * dim), dim=-1)
        site = Site("trunk", "trunk", 0, size, probe=self._first_look)
        tokens = seam(site, partial(self._trunk, seam=seam, size=size), tokens, modulations)
        shift, scale = last[:, None].chunk(2, dim=-1)
        output = self.proj_out_2(modulated(tokens, shift, scale))
        output = rearrange(output, "b (h w) (p q c) -> b c (h p) (w q)", h=size[0], p=patch, q=patch)
        return output[:, : self.config.in_channels]

    def _first_look(self, tokens: Tensor, modulations: Tensor) -> Tensor:
        """Computes the normed and modulated tokens (B, N, dim) that the first block's attention reads."""
        first = cast(DiTBlock, self.transformer_blocks[0])
        return first.first_look(tokens, modulations[:, : first.parts * self.config.dim])

    def _trunk(self, tokens: Tensor, modulations: Tensor, *, seam: Seam, size: tuple[int, int]) -> Tensor:
        """Runs all blocks on the tokens (B, N, dim)."""
        parts = modulations.chunk(len(self.transformer_blocks), dim=-1)
        for index, (block, own) in enumerate(zip(self.transformer_blocks, parts, strict=True)):
            site = Site("block", f"transformer_blocks.{index}", 0, size)
            tokens = seam(site, partial(block, seam=seam, site=site), tokens, own)
        return tokens


def positions(size: tuple[int, int], base: int, dim: int, device: torch.device) -> Tensor:
    """Sinusoidal features of the positions of a grid of tokens, columns first; distances are those of `base` tokens.

    Args:
        size: height and width of the grid.
        base: tokens along each side in training.
        dim: number of features.
        device: where they are computed.

    Returns:
        (h*w, dim), float32.
    """
    rates = 10_000.0 ** (-torch.arange(dim // 4, dtype=torch.float64, device=device) / (dim / 4))

    def features(count: int) -> Tensor:
        angles = torch.arange(count, dtype=torch.float64, device=device)[:, None] * (base / count) * rates
        return torch.cat((angles.sin(), angles.cos()), dim=1).float()

    rows, columns = (features(count) for count in size)
    grid = (columns.expand(size[0], -1, -1), rows[:, None].expand(-1, size[1], -1))
    return torch.cat(grid, dim=-1).flatten(0, 1)


_known_positions = lru_cache(maxsize=8)(positions)
