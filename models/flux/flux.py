"""The Flux.1 transformer (Black Forest Labs 2024), under the Hub's FluxTransformer2DModel parameter names."""

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..embeddings import TimestepEmbedding, single_time, sinusoids
from ..rope import after_text, rotary_table
from ..seam import Seam, Site, call_through
from .blocks import DoubleBlock, SingleBlock
from .config import OWNER, PATCH, FluxConfig
from .modulation import Modulation, modulated, parts_of

_FEATURES = 256


class _Embedding(nn.Module):
    """What embeds time, guidance (where the checkpoint is distilled on it) and pooled text; their sum modulates."""

    def __init__(self, config: FluxConfig) -> None:
        super().__init__()
        self.timestep_embedder = TimestepEmbedding(_FEATURES, config.dim)
        if config.guidance_embeds:
            self.guidance_embedder = TimestepEmbedding(_FEATURES, config.dim)
        self.text_embedder = TimestepEmbedding(config.pooled_projection_dim, config.dim)


class FluxTransformer(nn.Module):
    """Predicts the flow eps - x0 of latents x (B, C, h, w).

    An evaluation has three parts, of which `forward` makes one: `prepare` depends on the prompt alone,
    `prepare_times` on the prompt and the time, `evaluate` on x too.

    Sites: the stack of blocks is "trunk", whose `fn(image, text, modulations, rope)` maps image tokens (B, N, dim) to
    image tokens, given text tokens (B, L, dim), the blocks' modulations (B, width) and the rotary table (B, N,
    head_dim/2, 2) of the image tokens. A seam may leave out image tokens if it gathers the rows of `rope` alike
    (`Site.per_token`): those that remain keep their own positions. Inside it each block is a site "block" on the joint
    sequence (text first, `Site.prefix` tokens), `fn(joint, modulations, rope)` with its own modulations and the rotary
    table of all tokens, and inside that its attention is one, keys already rotated.
    """

    sites: ClassVar[frozenset[str]] = frozenset({"trunk", "block", "attention"})
    """Kinds of its sites."""

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
        given = self.prepare(context=context, pooled=pooled, guidance=guidance)
        time = self.prepare_times(single_time(timestep, x.device), given)[0]
        return self.evaluate(x, time, given, seam)

    def prepare(self, *, context: Tensor, pooled: Tensor, guidance: Tensor | None = None) -> dict[str, Tensor]:
        """What every evaluation for a prompt shares: text tokens (B, L, dim), and embeddings (B, dim) of pooled text
        and guidance. Arguments and errors as in `forward`."""
        if (guidance is None) == self.config.guidance_embeds:
            remedy = "give guidance (B,)" if guidance is None else "leave guidance out"
            raise ValueError(f"guidance_embeds={self.config.guidance_embeds} in the {OWNER} config: {remedy}")
        embed = self.time_text_embed
        given = {"text": self.context_embedder(context), "pooled": embed.text_embedder(pooled)}
        if guidance is not None:
            strength = guidance.to(pooled.dtype) * 1000
            given["guidance"] = embed.guidance_embedder(sinusoids(strength, _FEATURES).to(pooled.dtype))
        return given

    def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """The modulations of all blocks (S, B, width) at timesteps (S, 1) or (S, B), for what `prepare` gave."""
        pooled = given["pooled"]
        # In half precision the published codes round time and guidance as follows, which the embedding amplifies.
        times = timesteps.to(pooled.dtype) / 1000 * 1000
        features = sinusoids(times.flatten(), _FEATURES).to(pooled.dtype)
        embedding = self.time_text_embed.timestep_embedder(features).unflatten(0, times.shape)
        if "guidance" in given:
            embedding = embedding + given["guidance"]
        activated = F.silu(embedding + pooled)
        layers = [layer for block in self._blocks.values() for layer in block.modulations]
        return torch.cat([layer(activated) for layer in (*layers, self.norm_out)], dim=-1)

    def evaluate(self, x: Tensor, time: Tensor, given: Mapping[str, Tensor], seam: Seam = call_through) -> Tensor:
        """Prediction (B, C, h, w) of x alike, with the rows of x of what `prepare` gave, and of one step of what
        `prepare_times` did, (B, width). ValueError for sides that hold no whole tokens."""
        height, width = x.shape[-2:]
        if height % PATCH or width % PATCH:
            raise ValueError(f"x has {height}x{width} positions; {OWNER} needs sides that {PATCH} divides")
        size, dim = (height // PATCH, width // PATCH), self.config.dim
        image = self.x_embedder(rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=PATCH, q=PATCH))
        table = rotary_table if torch.compiler.is_compiling() else _known_rotary_table
        rope = table(size, self.config.axes_dims_rope, x.device).expand(x.shape[0], -1, -1, -1)
        modulations, last = time.split((time.shape[-1] - 2 * dim, 2 * dim), dim=-1)
        trunk = partial(self._trunk, seam=seam, size=size)
        site = Site("trunk", "trunk", 0, size, per_token=(2,), per_prefix=(0,), probe=self._first_look)
        image = seam(site, trunk, image, given["text"], modulations, rope)
        scale, shift = parts_of(last, 2)
        tokens = self.proj_out(modulated(image, shift, scale))
        return rearrange(tokens, "b (h w) (c p q) -> b c (h p) (w q)", h=size[0], p=PATCH, q=PATCH)

    @property
    def _blocks(self) -> dict[str, DoubleBlock | SingleBlock]:
        kinds = ("transformer_blocks", "single_transformer_blocks")
        return {f"{kind}.{index}": block for kind in kinds for index, block in enumerate(getattr(self, kind))}

    def _first_look(self, image: Tensor, text: Tensor, modulations: Tensor, rope: Tensor) -> Tensor:
        """What the first block's attention reads of the image tokens (B, N, dim)."""
        first = next(iter(self._blocks.values()))
        return first.first_look(image, modulations[:, : first.parts * self.config.dim])

    def _trunk(
        self, image: Tensor, text: Tensor, modulations: Tensor, rope: Tensor, *, seam: Seam, size: tuple[int, int]
    ) -> Tensor:
        length, rope = text.shape[1], after_text(rope, text.shape[1])
        joint = torch.cat((text, image), dim=1)
        blocks = self._blocks
        own = modulations.split([block.parts * self.config.dim for block in blocks.values()], dim=-1)
        for (name, block), parts in zip(blocks.items(), own, strict=True):
            site = Site("block", name, 0, size, prefix=length, per_token=(1,))
            joint = seam(site, partial(block, seam=seam, site=site), joint, parts, rope)
        return joint[:, length:]


_known_rotary_table = lru_cache(maxsize=8)(rotary_table)
