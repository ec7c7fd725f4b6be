"""The Qwen-Image transformer (arXiv 2508.02324), with the parameter names of the Hub's QwenImageTransformer2DModel."""

from collections.abc import Mapping
from functools import partial
from itertools import count, takewhile
from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..embeddings import TimestepEmbedding, single_time, sinusoids
from ..norm import RMSNorm
from ..seam import Seam, Site, call_through
from ..streams.modulation import EPS, Modulation, modulated, parts_of
from ..streams.packed import PATCH
from ..streams.stack import run_blocks
from .block import QwenImageBlock
from .config import OWNER, QwenImageConfig
from .positions import known_tables, tables

_FEATURES = 256


class _Embedding(nn.Module):
    """Embedder of the time."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.timestep_embedder = TimestepEmbedding(_FEATURES, dim)


class QwenImageTransformer(nn.Module):
    """Qwen-Image transformer that predicts the flow eps - x0 of latents x (B, C, h, w).

    `forward` runs three parts: `prepare` depends only on the prompt and on pictures to edit, `prepare_times` on the
    time, `evaluate` also on x.

    Sites: the stack of blocks is a "trunk" with `fn(image, text, rope_before, modulations, rope, mask, edited, still)`,
    which maps image tokens (B, N, dim) to image tokens, given text tokens (B, L, dim), the rotary table (B, L + M,
    head_dim/2, 2) of all tokens before the image, the modulations of all blocks (B, width), the rotary table of the
    image tokens, a mask (B, L) of text tokens if some are padding, the M tokens of pictures to edit, and the
    modulations of these (B, width) if they have their own. Inside it, each block is a "block" on the joint sequence
    (text, pictures to edit, image) with `fn(joint, modulations, rope, mask)`. Its attention is an "attention".

    Args:
        config: the architecture.
    """

    sites: ClassVar[frozenset[str]] = frozenset({"trunk", "block", "attention"})
    """Kinds of sites in this network."""

    def __init__(self, config: QwenImageConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.time_text_embed = _Embedding(dim)
        self.txt_norm = RMSNorm(config.joint_attention_dim, EPS)
        self.img_in = nn.Linear(config.in_channels, dim)
        self.txt_in = nn.Linear(config.joint_attention_dim, dim)
        self.transformer_blocks = nn.ModuleList(
            [QwenImageBlock(dim, config.num_attention_heads) for _ in range(config.num_layers)]
        )
        self.norm_out = Modulation(dim, 2)
        self.proj_out = nn.Linear(dim, PATCH**2 * config.out_channels)

    def forward(
        self,
        x: Tensor,
        timestep: Tensor | float,
        *,
        context: Tensor,
        mask: Tensor | None = None,
        seam: Seam = call_through,
        **edited: Tensor,
    ) -> Tensor:
        """Computes the prediction.

        Args:
            x: (B, C, h, w), h and w even.
            timestep: 1000 t, a number or (B,).
            context: (B, L, joint_attention_dim), states of the text encoder.
            mask: (B, L), bool, which text tokens are attended to; None for all.
            seam: called at each site.
            edited: "edited0", "edited1" and so on: latents (B, C, h', w') of pictures to edit.

        Returns:
            The flow (B, C, h, w).

        Raises:
            ValueError: if h or w is odd.
        """
        given = self.prepare(context=context, mask=mask, **edited)
        time = self.prepare_times(single_time(timestep, x.device), given)[0]
        return self.evaluate(x, time, given, seam)

    def prepare(self, *, context: Tensor, mask: Tensor | None = None, **edited: Tensor) -> dict[str, Tensor]:
        """Computes what all evaluations of a prompt share; arguments as in `forward`.

        Returns:
            "text": tokens (B, L, dim); "mask" and pictures as given; "still": modulations (B, width) of pictures to
            edit, if they have their own.
        """
        given = {"text": self.txt_in(self.txt_norm(context)), **edited}
        if mask is not None:
            given["mask"] = mask
        if edited and self.config.zero_cond_t:
            activated = self._activated(context.new_zeros(1, 1), context.dtype)[0]
            parts = [block.modulations[0](activated) for block in self._blocks]
            given["still"] = torch.cat(parts, dim=-1).expand(len(context), -1)
        return given

    def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Computes the modulations of all blocks.

        Args:
            timesteps: (S, 1) or (S, B), timesteps of S steps.
            given: output of `prepare`.

        Returns:
            (S, 1 or B, width).
        """
        activated = self._activated(timesteps, given["text"].dtype)
        layers = [layer for block in self._blocks for layer in block.modulations]
        return torch.cat([layer(activated) for layer in (*layers, self.norm_out)], dim=-1)

    def evaluate(self, x: Tensor, time: Tensor, given: Mapping[str, Tensor], seam: Seam = call_through) -> Tensor:
        """Computes the prediction at x.

        Args:
            x: (B, C, h, w), h and w even.
            time: (1 or B, width), one step of `prepare_times`.
            given: output of `prepare`, with the rows of x.
            seam: called at each site.

        Returns:
            The flow (B, C, h, w).

        Raises:
            ValueError: if h or w is odd.
        """
        names = takewhile(given.__contains__, (f"edited{index}" for index in count()))
        pictures = [x, *(given[name] for name in names)]
        (image, *edited), sizes = map(self._tokens, pictures), tuple(map(_grid, pictures))
        samples, dim, text = x.shape[0], self.config.dim, given["text"]
        table = tables if torch.compiler.is_compiling() else known_tables
        found = table(sizes, text.shape[1], self.config.axes_dims_rope, x.device)
        rope_before, rope = (part.expand(samples, -1, -1, -1) for part in found)
        modulations, last = time.expand(samples, -1).split((time.shape[-1] - 2 * dim, 2 * dim), dim=-1)
        site = Site("trunk", "trunk", 0, sizes[0], per_token=(3,), per_prefix=(0, 1), probe=self._first_look)
        trunk = partial(self._trunk, seam=seam, size=sizes[0])
        further = (given.get("mask"), torch.cat(edited, dim=1) if edited else None, given.get("still"))
        image = seam(site, trunk, image, text, rope_before, modulations, rope, *further)
        scale, shift = parts_of(last, 2)
        tokens = self.proj_out(modulated(image, shift, scale))
        return rearrange(tokens, "b (h w) (c p q) -> b c (h p) (w q)", h=sizes[0][0], p=PATCH, q=PATCH)

    @property
    def _blocks(self) -> list[QwenImageBlock]:
        return list(self.transformer_blocks)  # type: ignore[arg-type]

    def _activated(self, timesteps: Tensor, dtype: torch.dtype) -> Tensor:
        """Activated embedding (S, B, dim) of timesteps (S, B)."""
        # In half precision published codes round the time like this, and the embedding amplifies it.
        times = (timesteps / 1000).to(dtype).float() * 1000
        features = sinusoids(times.flatten(), _FEATURES).to(dtype)
        return F.silu(self.time_text_embed.timestep_embedder(features)).unflatten(0, timesteps.shape)

    def _tokens(self, picture: Tensor) -> Tensor:
        """Tokens (B, h*w/4, dim) of latents (B, C, h, w)."""
        height, width = picture.shape[-2:]
        if height % PATCH or width % PATCH:
            raise ValueError(f"latents have {height}x{width} positions; {OWNER} needs multiples of {PATCH}")
        return self.img_in(rearrange(picture, "b c (h p) (w q) -> b (h w) (c p q)", p=PATCH, q=PATCH))

    def _first_look(
        self, image: Tensor, text: Tensor, rope_before: Tensor, modulations: Tensor, *_: Tensor | None
    ) -> Tensor:
        """Computes the normed and modulated image tokens (B, N, dim) that the first block's attention reads."""
        first = self._blocks[0]
        return first.first_look(image, modulations[:, : first.parts * self.config.dim])

    def _trunk(
        self,
        image: Tensor,
        text: Tensor,
        rope_before: Tensor,
        modulations: Tensor,
        rope: Tensor,
        mask: Tensor | None,
        edited: Tensor | None,
        still: Tensor | None,
        *,
        seam: Seam,
        size: tuple[int, int],
    ) -> Tensor:
        """Runs all blocks on the joint sequence and returns the image tokens (B, N, dim)."""
        own = modulations.chunk(self.config.num_layers, dim=-1)
        if still is not None:
            pairs = zip(own, still.chunk(self.config.num_layers, dim=-1), strict=True)
            own = tuple(torch.cat(pair, dim=-1) for pair in pairs)
        before = text if edited is None else torch.cat((text, edited), dim=1)
        blocks = {
            f"transformer_blocks.{index}": partial(block, still=before.shape[1] - text.shape[1])
            for index, block in enumerate(self._blocks)
        }
        return run_blocks(blocks, (before, image), own, (torch.cat((rope_before, rope), dim=1), mask), seam, size)


def _grid(picture: Tensor) -> tuple[int, int]:
    """(h, w) of the grid of tokens of latents (B, C, h, w)."""
    return picture.shape[-2] // PATCH, picture.shape[-1] // PATCH
