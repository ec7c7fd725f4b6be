"""The transformer of Stable Diffusion 3 (Esser et al. 2024), with the names of the Hub's SD3Transformer2DModel."""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..embeddings import TimestepEmbedding, single_time, sinusoids
from ..original_layout import OriginalLayout
from ..seam import Seam, Site, call_through
from ..streams.modulation import Modulation, modulated, parts_of
from ..streams.stack import run_blocks
from .block import JointBlock
from .config import OWNER, PATCH, SD3Config
from .original import original_layout

_FEATURES = 256


class _Patches(nn.Module):
    """Embeds patches of the latents, and adds the middle of a stored grid of positions."""

    pos_embed: Tensor

    def __init__(self, config: SD3Config) -> None:
        super().__init__()
        self.side = config.pos_embed_max_size
        self.proj = nn.Conv2d(config.in_channels, config.dim, PATCH, PATCH)
        self.register_buffer("pos_embed", torch.zeros(1, self.side**2, config.dim))

    def forward(self, x: Tensor) -> Tensor:
        """Maps latents (B, C, h, w) to tokens (B, h*w/4, dim)."""
        height, width = x.shape[-2] // PATCH, x.shape[-1] // PATCH
        top, left = (self.side - height) // 2, (self.side - width) // 2
        grid = self.pos_embed.unflatten(1, (self.side, self.side))[:, top : top + height, left : left + width]
        return self.proj(x).flatten(2).mT + grid.flatten(1, 2)


class _Embedding(nn.Module):
    """Embedders of time and pooled text; modulations use the sum."""

    def __init__(self, config: SD3Config) -> None:
        super().__init__()
        self.timestep_embedder = TimestepEmbedding(_FEATURES, config.dim)
        self.text_embedder = TimestepEmbedding(config.pooled_projection_dim, config.dim)


class SD3Transformer(nn.Module):
    """Stable Diffusion 3 transformer that predicts the flow eps - x0 of latents x (B, C, h, w).

    `forward` runs three parts: `prepare` depends only on the prompt, `prepare_times` on the prompt and the time,
    `evaluate` also on x.

    Sites: the stack of blocks is a "trunk" with `fn(image, text, modulations)`, which maps image tokens (B, N, dim) to
    image tokens, given text tokens (B, L, dim) and the modulations of all blocks (B, width). Image tokens carry their
    positions. Inside it, each block is a "block" on the joint sequence (text first) with `fn(joint, modulations)`. Its
    attention, and the second attention of some blocks, are an "attention".

    Args:
        config: the architecture.
    """

    sites: ClassVar[frozenset[str]] = frozenset({"trunk", "block", "attention"})
    """Kinds of sites in this network."""

    def __init__(self, config: SD3Config) -> None:
        super().__init__()
        self.config = config
        dim, last = config.dim, config.num_layers - 1
        self.pos_embed = _Patches(config)
        self.time_text_embed = _Embedding(config)
        self.context_embedder = nn.Linear(config.joint_attention_dim, dim)
        self.transformer_blocks = nn.ModuleList(
            [
                JointBlock(
                    dim,
                    config.num_attention_heads,
                    normed=config.qk_norm is not None,
                    dual=index in config.dual_attention_layers,
                    last=index == last,
                )
                for index in range(config.num_layers)
            ]
        )
        self.norm_out = Modulation(dim, 2)
        self.proj_out = nn.Linear(dim, PATCH**2 * config.out_channels)

    @property
    def original(self) -> OriginalLayout:
        """Names in the authors' layout."""
        return original_layout(self.config)

    def forward(
        self, x: Tensor, timestep: Tensor | float, *, context: Tensor, pooled: Tensor, seam: Seam = call_through
    ) -> Tensor:
        """Computes the prediction.

        Args:
            x: (B, C, h, w), h and w even.
            timestep: 1000 t, a number or (B,).
            context: (B, L, joint_attention_dim), text states.
            pooled: (B, pooled_projection_dim), pooled text.
            seam: called at each site.

        Returns:
            The flow (B, C, h, w).

        Raises:
            ValueError: if h or w is odd, or larger than the stored grid of positions.
        """
        given = self.prepare(context=context, pooled=pooled)
        time = self.prepare_times(single_time(timestep, x.device), given)[0]
        return self.evaluate(x, time, given, seam)

    def prepare(self, *, context: Tensor, pooled: Tensor) -> dict[str, Tensor]:
        """Computes what all evaluations of a prompt share; arguments as in `forward`.

        Returns:
            "text": tokens (B, L, dim); "pooled": embedding (B, dim).
        """
        return {"text": self.context_embedder(context), "pooled": self.time_text_embed.text_embedder(pooled)}

    def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Computes the modulations of all blocks.

        Args:
            timesteps: (S, 1) or (S, B), timesteps of S steps.
            given: output of `prepare`.

        Returns:
            (S, B, width).
        """
        pooled = given["pooled"]
        features = sinusoids(timesteps.flatten(), _FEATURES).to(pooled.dtype)
        embedding = self.time_text_embed.timestep_embedder(features).unflatten(0, timesteps.shape)
        activated = F.silu(embedding + pooled)
        layers = [layer for block in self._blocks for layer in block.modulations]
        return torch.cat([layer(activated) for layer in (*layers, self.norm_out)], dim=-1)

    def evaluate(self, x: Tensor, time: Tensor, given: Mapping[str, Tensor], seam: Seam = call_through) -> Tensor:
        """Computes the prediction at x.

        Args:
            x: (B, C, h, w), h and w even.
            time: (B, width), one step of `prepare_times`.
            given: output of `prepare`, with the rows of x.
            seam: called at each site.

        Returns:
            The flow (B, C, h, w).

        Raises:
            ValueError: if h or w is odd, or larger than the stored grid of positions.
        """
        height, width = x.shape[-2:]
        if height % PATCH or width % PATCH:
            raise ValueError(f"x has {height}x{width} positions; {OWNER} needs multiples of {PATCH}")
        most, dim = PATCH * self.config.pos_embed_max_size, self.config.dim
        if max(height, width) > most:
            raise ValueError(f"x has {height}x{width} positions; {OWNER} has {most}x{most} (pos_embed_max_size)")
        size = (height // PATCH, width // PATCH)
        modulations, last = time.split((time.shape[-1] - 2 * dim, 2 * dim), dim=-1)
        trunk = partial(self._trunk, seam=seam, size=size)
        site = Site("trunk", "trunk", 0, size, per_prefix=(0,), probe=self._first_look)
        image = seam(site, trunk, self.pos_embed(x), given["text"], modulations)
        scale, shift = parts_of(last, 2)
        tokens = self.proj_out(modulated(image, shift, scale))
        return rearrange(tokens, "b (h w) (p q c) -> b c (h p) (w q)", h=size[0], p=PATCH, q=PATCH)

    @property
    def _blocks(self) -> list[JointBlock]:
        return list(self.transformer_blocks)  # type: ignore[arg-type]

    def _first_look(self, image: Tensor, text: Tensor, modulations: Tensor) -> Tensor:
        """Computes the normed and modulated image tokens (B, N, dim) that the first block's attention reads."""
        first = self._blocks[0]
        return first.first_look(image, modulations[:, : first.parts * self.config.dim])

    def _trunk(self, image: Tensor, text: Tensor, modulations: Tensor, *, seam: Seam, size: tuple[int, int]) -> Tensor:
        """Runs all blocks on the joint sequence and returns the image tokens (B, N, dim)."""
        blocks = {f"transformer_blocks.{index}": block for index, block in enumerate(self._blocks)}
        own = modulations.split([block.parts * self.config.dim for block in blocks.values()], dim=-1)
        return run_blocks(blocks, (text, image), own, (), seam, size)
