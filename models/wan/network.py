"""The transformer of Wan (Wan Team 2025, arXiv 2503.20314), with the parameter names of WanTransformer3DModel."""

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import ClassVar, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from ..embeddings import single_time
from ..rope import rotary_grid
from ..seam import Seam, Site, call_through
from ..streams.modulation import modulated
from .block import WanBlock
from .config import OWNER, WanConfig
from .embedding import Embedding


class WanTransformer(nn.Module):
    """Transformer that predicts the flow eps - x0 of the latents of a video, x (B, C, T, h, w).

    `forward` runs three parts: `prepare` depends only on the prompt, `prepare_times` on the time, `evaluate` also on x.
    Latents that are given as "first" take the place of the first frame of x, and the time of its tokens is 0: so Wan
    2.2 TI2V continues a picture.

    Sites: the stack of blocks is a "trunk" with `fn(tokens, text, time, rope, image)`, which maps the tokens (B, N,
    dim) of all frames, given text tokens (B, L, dim), the embedded time (B, 6 dim), or (B, N, 6 dim) with a first
    frame, the rotary table (B, N, head_dim/2, 2) and the tokens of an image, or None. A seam may drop tokens if it
    gathers the rows of `rope`, and of the time if there are N, alike (`Site.per_token`). Inside it, each block is a
    "block" with the same arguments, and its self-attention an "attention". `Site.size` is (T, h/2, w/2).

    Args:
        config: the architecture.
    """

    sites: ClassVar[frozenset[str]] = frozenset({"trunk", "block", "attention"})
    """Kinds of sites in this network."""
    float32: ClassVar[tuple[str, ...]] = ("time_embedder", "scale_shift_table", "norm2")
    """Modules and parameters that stay in float32 in half precision, as published."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        self.config = config
        depth, rows, columns = config.patch_size
        patch = (depth, rows, columns)
        self.patch_embedding = nn.Conv3d(config.in_channels, config.dim, patch, stride=patch)
        self.condition_embedder = Embedding(config)
        self.blocks = nn.ModuleList([WanBlock(config) for _ in range(config.num_layers)])
        self.proj_out = nn.Linear(config.dim, config.token_channels)
        self.scale_shift_table = nn.Parameter(torch.zeros(1, 2, config.dim))

    def forward(
        self,
        x: Tensor,
        timestep: Tensor | float,
        context: Tensor,
        image: Tensor | None = None,
        seam: Seam = call_through,
        first: Tensor | None = None,
    ) -> Tensor:
        """Computes the prediction.

        Args:
            x: (B, in_channels, T, h, w), h and w multiples of the patch size.
            timestep: from 0 to 1000, a number or (B,).
            context: (B, L, text_dim), states of the text encoder.
            image: (B, M, image_dim), states of the image encoder; required if and only if the config has image_dim.
            seam: called at each site.
            first: (B, in_channels, 1, h, w), clean latents of the first frame; None if it is sampled as the others.

        Returns:
            The flow (B, C, T, h, w).

        Raises:
            ValueError: if h or w is not a multiple of the patch size, or `image` does not match the config.
        """
        beside = {"image": image, "first": first}
        given = self.prepare(context=context, **{name: rows for name, rows in beside.items() if rows is not None})
        time = self.prepare_times(single_time(timestep, x.device), given)[0]
        return self.evaluate(x, time, given, seam)

    def prepare(self, *, context: Tensor, **beside: Tensor) -> dict[str, Tensor]:
        """Computes what all evaluations of a prompt share.

        Args:
            context: (B, L, text_dim).
            beside: "image" and "first" as in `forward`; "beside" (B, channels, T, h, w), which the network reads beside
                x.

        Returns:
            "text": (B, L, dim); "image": (B, M, dim) if the network reads an image; "first" and "beside" as they were
            given.

        Raises:
            ValueError: if "image" does not match the config.
        """
        if ("image" in beside) != (self.config.image_dim is not None):
            remedy = "leave image out" if "image" in beside else "give image (B, M, image_dim)"
            raise ValueError(f"image_dim={self.config.image_dim} in the {OWNER} config: {remedy}")
        given = {**beside, "text": self.condition_embedder.text_embedder(context)}
        if "image" in beside:
            given["image"] = self.condition_embedder.image_embedder(beside["image"])
        return given

    def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Embeds times (S, 1) or (S, B) of S steps as (S, 1 or B, 7 dim); see `Embedding.times`.

        If a first frame is given, the embedding of its time, 0, follows: (S, 1 or B, 14 dim).
        """
        dtype = given["text"].dtype
        times = self.condition_embedder.times(timesteps, dtype)
        if "first" not in given:
            return times
        return torch.cat((times, self.condition_embedder.times(torch.zeros_like(timesteps), dtype)), dim=-1)

    def evaluate(self, x: Tensor, time: Tensor, given: Mapping[str, Tensor], seam: Seam = call_through) -> Tensor:
        """Computes the prediction at x.

        Args:
            x: (B, C, T, h, w), h and w multiples of the patch size.
            time: (1 or B, 7 or 14 dim), one step of `prepare_times`.
            given: output of `prepare`, with the rows of x.
            seam: called at each site.

        Returns:
            The flow (B, C, T, h, w).

        Raises:
            ValueError: if h or w is not a multiple of the patch size.
        """
        patch, (height, width) = self.config.patch_size[1], x.shape[-2:]
        if height % patch or width % patch:
            raise ValueError(f"x has {height}x{width} positions; {OWNER} needs multiples of {patch}")
        if "first" in given:
            x = torch.cat((given["first"], x[:, :, 1:]), dim=2)
        if "beside" in given:
            x = torch.cat((x, given["beside"]), dim=1)
        size = (x.shape[2], height // patch, width // patch)
        tokens = self.patch_embedding(x).flatten(2).transpose(1, 2).contiguous()
        table = _rotary_table if torch.compiler.is_compiling() else _known_rotary_table
        rope = table(size, self.config.axes, x.device).expand(x.shape[0], -1, -1, -1)
        time = time.expand(x.shape[0], -1)
        if "first" in given:
            time = _per_token(time, size)
        own, last = time.split((6 * self.config.dim, self.config.dim), dim=-1)
        per_token = (1, 2) if "first" in given else (2,)
        site = Site("trunk", "trunk", 0, size, per_token=per_token, probe=self._first_look, time=1)
        trunk = partial(self._trunk, seam=seam, size=size, per_token=per_token)
        tokens = seam(site, trunk, tokens, given["text"], own, rope, given.get("image"))
        last = last if last.dim() == 3 else last[:, None]
        shift, scale = (last[:, :, None].to(self.scale_shift_table.dtype) + self.scale_shift_table).unbind(2)
        normed = modulated(tokens.to(shift.dtype), shift, scale, eps=self.config.eps).to(tokens.dtype)
        return rearrange(
            self.proj_out(normed), "b (t h w) (p q c) -> b c t (h p) (w q)", t=size[0], h=size[1], p=patch, q=patch
        )

    def _first_look(
        self, tokens: Tensor, text: Tensor, time: Tensor, rope: Tensor, image: Tensor | None = None
    ) -> Tensor:
        """Computes the normed and modulated tokens (B, N, dim) that the first block's attention reads."""
        return cast(WanBlock, self.blocks[0]).first_look(tokens, time)

    def _trunk(
        self,
        tokens: Tensor,
        text: Tensor,
        time: Tensor,
        rope: Tensor,
        image: Tensor | None = None,
        *,
        seam: Seam,
        size: tuple[int, int, int],
        per_token: tuple[int, ...],
    ) -> Tensor:
        """Runs all blocks on the tokens (B, N, dim)."""
        for index, block in enumerate(self.blocks):
            site = Site("block", f"blocks.{index}", 0, size, per_token=per_token)
            tokens = seam(site, partial(block, seam=seam, site=site), tokens, text, time, rope, image)
        return tokens


def _per_token(times: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Embedded times (B, N, 7 dim) of the tokens of all frames: the second of two (B, 14 dim) in the first frame."""
    frames, rows, columns = size
    later, first = (time[:, None].expand(-1, rows * columns, -1) for time in times.chunk(2, dim=-1))
    return torch.cat((first, later.repeat(1, frames - 1, 1)), dim=1)


def _rotary_table(size: tuple[int, int, int], dims: tuple[int, int, int], device: torch.device) -> Tensor:
    """Rotary table (T h w, head_dim/2, 2) of a grid of frames, rows and columns."""
    return rotary_grid([range(side) for side in size], dims, device)


_known_rotary_table = lru_cache(maxsize=8)(_rotary_table)
