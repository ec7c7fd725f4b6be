"""The Flux.1 transformer (Black Forest Labs 2024), under the Hub's FluxTransformer2DModel parameter names."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from einops import rearrange
from torch import Tensor, nn

from .config import COUNT, FLAG, NONE, WIDTH, WIDTHS, Kind, refuse_mistyped, refuse_unsupported
from .embeddings import TimestepEmbedding, sinusoids
from .flux_blocks import DoubleBlock, Modulation, SingleBlock, modulated
from .rope import rotary_table
from .seam import Seam, Site, call_through

PATCH = 2
"""Latent positions along each side of an image token."""

_OWNER = "FluxTransformer2DModel"
_FEATURES = 256
_WIDTH_FIELDS = (
    "in_channels",
    "attention_head_dim",
    "num_attention_heads",
    "joint_attention_dim",
    "pooled_projection_dim",
)
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(_WIDTH_FIELDS, WIDTH),
    "out_channels": WIDTH | NONE,
    "num_layers": COUNT,
    "num_single_layers": COUNT,
    "guidance_embeds": FLAG,
    "axes_dims_rope": WIDTHS,
}


@dataclass(frozen=True)
class FluxConfig:
    """Architecture of a Flux transformer; field names and defaults are those of its config.json.

    `in_channels` and `out_channels` (None: the same) are those of a token: four times the latent's.
    """

    in_channels: int = 64
    out_channels: int | None = None
    num_layers: int = 19
    num_single_layers: int = 38
    attention_head_dim: int = 128
    num_attention_heads: int = 24
    joint_attention_dim: int = 4096
    pooled_projection_dim: int = 768
    guidance_embeds: bool = False
    axes_dims_rope: tuple[int, int, int] = (16, 56, 56)

    @property
    def dim(self) -> int:
        return self.num_attention_heads * self.attention_head_dim

    @property
    def latent_channels(self) -> int:
        return self.in_channels // PATCH**2

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read a config.json; raises ValueError for a field that cannot be honoured."""
        fields = cls.__dataclass_fields__
        refuse_unsupported(_OWNER, raw, fields, {"patch_size": (1,)})
        refuse_mistyped(_OWNER, raw, _KINDS)
        written = ((name, raw[name]) for name in fields if name in raw)
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in written}
        config = cls(**values)
        for name in ("in_channels", "out_channels"):
            channels = getattr(config, name)
            if channels is not None and (channels < 1 or channels % PATCH**2):
                raise ValueError(f"{_OWNER} config: {name}={channels}: a token is {PATCH**2} positions of the latent")
        axes = config.axes_dims_rope
        if len(axes) != 3 or any(dim % 2 for dim in axes) or sum(axes) != config.attention_head_dim:
            raise ValueError(
                f"{_OWNER} config: axes_dims_rope={list(axes)}: three even numbers whose sum is "
                f"attention_head_dim={config.attention_head_dim} are needed"
            )
        return config


class _Embedding(nn.Module):
    """Time, guidance (where the checkpoint is distilled on it) and pooled text to one vector (B, dim)."""

    def __init__(self, config: FluxConfig) -> None:
        super().__init__()
        self.timestep_embedder = TimestepEmbedding(_FEATURES, config.dim)
        if config.guidance_embeds:
            self.guidance_embedder = TimestepEmbedding(_FEATURES, config.dim)
        self.text_embedder = TimestepEmbedding(config.pooled_projection_dim, config.dim)

    def forward(self, timestep: Tensor, guidance: Tensor | None, pooled: Tensor) -> Tensor:
        embedding = self.timestep_embedder(sinusoids(timestep, _FEATURES).to(pooled.dtype))
        if guidance is not None:
            embedding = embedding + self.guidance_embedder(sinusoids(guidance, _FEATURES).to(pooled.dtype))
        return embedding + self.text_embedder(pooled)


class FluxTransformer(nn.Module):
    """Predicts the flow eps - x0 of latents x (B, C, h, w).

    Sites: the stack of blocks is "trunk", whose `fn(image, text, embedding, rope)` maps image tokens (B, N, dim) to
    image tokens, given text tokens (B, L, dim), the embedding (B, dim) and the rotary table (B, N, head_dim/2, 2) of
    the image tokens. A seam may leave out image tokens if it gathers the rows of `rope` alike (`Site.per_token`): those
    that remain keep their own positions. Inside it each block is a site "block" on the joint sequence (text first,
    `Site.prefix` tokens), `fn(joint, embedding, rope)`, and inside that its attention is one, keys already rotated.
    """

    def __init__(self, config: FluxConfig) -> None:
        super().__init__()
        self.config = config
        dim, heads = config.dim, config.num_attention_heads
        self.time_text_embed = _Embedding(config)
        self.context_embedder = nn.Linear(config.joint_attention_dim, dim)
        self.x_embedder = nn.Linear(config.in_channels, dim)
        self.transformer_blocks = nn.ModuleList([DoubleBlock(dim, heads) for _ in range(config.num_layers)])
        self.single_transformer_blocks = nn.ModuleList(
            [SingleBlock(dim, heads) for _ in range(config.num_single_layers)]
        )
        self.norm_out = Modulation(dim, 2)
        self.proj_out = nn.Linear(dim, config.out_channels or config.in_channels)

    def forward(
        self,
        x: Tensor,
        timestep: Tensor | float,
        *,
        context: Tensor,
        pooled: Tensor,
        guidance: Tensor | None = None,
        seam: Seam = call_through,
    ) -> Tensor:
        """Prediction (B, C, h, w).

        x (B, C, h, w), h and w even; timestep 1000 t, a number or (B,); context (B, L, joint_attention_dim), the T5
        states; pooled (B, pooled_projection_dim); guidance (B,), exactly where the config has guidance_embeds. Raises
        ValueError otherwise.
        """
        height, width = x.shape[-2:]
        if height % PATCH or width % PATCH:
            raise ValueError(f"x has {height}x{width} positions; {_OWNER} needs sides that {PATCH} divides")
        if (guidance is None) == self.config.guidance_embeds:
            remedy = "give guidance (B,)" if guidance is None else "leave guidance out"
            raise ValueError(f"guidance_embeds={self.config.guidance_embeds} in the {_OWNER} config: {remedy}")
        size = (height // PATCH, width // PATCH)
        # In half precision the published codes round time and guidance as follows, which the embedding amplifies.
        times = torch.as_tensor(timestep, device=x.device).to(x.dtype).expand(x.shape[0]) / 1000 * 1000
        embedding = self.time_text_embed(times, None if guidance is None else guidance.to(x.dtype) * 1000, pooled)
        image = self.x_embedder(rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=PATCH, q=PATCH))
        text = self.context_embedder(context)
        rope = rotary_table(size, self.config.axes_dims_rope, x.device).expand(x.shape[0], -1, -1, -1)
        trunk = partial(self._trunk, seam=seam, size=size)
        site = Site("trunk", "trunk", 0, size, per_token=(2,), per_prefix=(0,), probe=self._first_look)
        image = seam(site, trunk, image, text, embedding, rope)
        scale, shift = self.norm_out(embedding)
        tokens = self.proj_out(modulated(image, shift, scale))
        return rearrange(tokens, "b (h w) (c p q) -> b c (h p) (w q)", h=size[0], p=PATCH, q=PATCH)

    def _first_look(self, image: Tensor, text: Tensor, embedding: Tensor, rope: Tensor) -> Tensor:
        """What the first block's attention reads of the image tokens (B, N, dim)."""
        first: DoubleBlock | SingleBlock = (*self.transformer_blocks, *self.single_transformer_blocks)[0]
        return first.first_look(image, embedding)

    def _trunk(
        self, image: Tensor, text: Tensor, embedding: Tensor, rope: Tensor, *, seam: Seam, size: tuple[int, int]
    ) -> Tensor:
        length = text.shape[1]
        joint = torch.cat((text, image), dim=1)
        for kind, blocks in (
            ("transformer_blocks", self.transformer_blocks),
            ("single_transformer_blocks", self.single_transformer_blocks),
        ):
            for index, block in enumerate(blocks):
                site = Site("block", f"{kind}.{index}", 0, size, prefix=length, per_token=(1,))
                joint = seam(site, partial(block, seam=seam, site=site), joint, embedding, rope)
        return joint[:, length:]
