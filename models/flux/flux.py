"""The Flux.1 transformer (Black Forest Labs 2024), with the parameter names of the Hub's FluxTransformer2DModel."""

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
    """Embedders of time, guidance (if the checkpoint is distilled on it) and pooled text; modulations use the sum."""

    def __init__(self, config: FluxConfig) -> None:
        super().__init__()
        self.timestep_embedder = TimestepEmbedding(_FEATURES, config.dim)
        if config.guidance_embeds:
            self.guidance_embedder = TimestepEmbedding(_FEATURES, config.dim)
        self.text_embedder = TimestepEmbedding(config.pooled_projection_dim, config.dim)


class FluxTransformer(nn.Module):
    """Flux.1 transformer that predicts the flow eps - x0 of latents x (B, C, h, w).

    `forward` runs three parts: `prepare` depends only on the prompt, `prepare_times` on the prompt and the time,
    `evaluate` also on x.

    Sites: the stack of blocks is a "trunk" with `fn(image, text, modulations, rope)`, which maps image tokens (B, N,
    dim) to image tokens, given text tokens (B, L, dim), the modulations of all blocks (B, width) and the rotary table
    (B, N, head_dim/2, 2) of the image tokens. A seam may drop image tokens if it gathers the rows of `rope` alike
    (`Site.per_token`); the remaining tokens keep their positions. Inside it, each block is a "block" on the joint
    sequence (text first, `Site.prefix` tokens) with `fn(joint, modulations, rope)`, its own modulations and the rotary
    table of all tokens. Its attention is an "attention", with keys already rotated.

    Args:
        config: the architecture.
    """

    sites: ClassVar[frozenset[str]] = frozenset({"trunk", "block", "attention"})
    """Kinds of sites in this network."""

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
        beside: Tensor | None = None,
        seam: Seam = call_through,
    ) -> Tensor:
        """Computes the prediction.

        Args:
            x: (B, C, h, w), h and w even.
            timestep: 1000 t, a number or (B,).
            context: (B, L, joint_attention_dim), T5 states.
            pooled: (B, pooled_projection_dim), pooled CLIP text.
            guidance: (B,), guidance strengths; required if and only if the config has guidance_embeds.
            beside: (B, channels, h, w), what is read beside x: the latents of the masked picture and the mask (Fill).
            seam: called at each site.

        Returns:
            The flow (B, C, h, w).

        Raises:
            ValueError: if `guidance` does not match the config, or if h or w is odd.
        """
        given = self.prepare(context=context, pooled=pooled, guidance=guidance, beside=beside)
        time = self.prepare_times(single_time(timestep, x.device), given)[0]
        return self.evaluate(x, time, given, seam)

    def prepare(
        self, *, context: Tensor, pooled: Tensor, guidance: Tensor | None = None, beside: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Computes what all evaluations of a prompt share; arguments and errors as in `forward`.

        Returns:
            "text": tokens (B, L, dim); "pooled" and "guidance": embeddings (B, dim); "beside": as given.
        """
        if (guidance is None) == self.config.guidance_embeds:
            remedy = "give guidance (B,)" if guidance is None else "leave guidance out"
            raise ValueError(f"guidance_embeds={self.config.guidance_embeds} in the {OWNER} config: {remedy}")
        embed = self.time_text_embed
        given = {"text": self.context_embedder(context), "pooled": embed.text_embedder(pooled)}
        if guidance is not None:
            strength = guidance.to(pooled.dtype) * 1000
            given["guidance"] = embed.guidance_embedder(sinusoids(strength, _FEATURES).to(pooled.dtype))
        return given if beside is None else {**given, "beside": beside.to(pooled.dtype)}

    def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Computes the modulations of all blocks.

        Args:
            timesteps: (S, 1) or (S, B), timesteps of S steps.
            given: output of `prepare`.

        Returns:
            (S, B, width).
        """
        pooled = given["pooled"]
        # In half precision published codes round time and guidance like this, and the embedding amplifies it.
        times = timesteps.to(pooled.dtype) / 1000 * 1000
        features = sinusoids(times.flatten(), _FEATURES).to(pooled.dtype)
        embedding = self.time_text_embed.timestep_embedder(features).unflatten(0, times.shape)
        if "guidance" in given:
            embedding = embedding + given["guidance"]
        activated = F.silu(embedding + pooled)
        layers = [layer for block in self._blocks.values() for layer in block.modulations]
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
            ValueError: if h or w is odd.
        """
        height, width = x.shape[-2:]
        if height % PATCH or width % PATCH:
            raise ValueError(f"x has {height}x{width} positions; {OWNER} needs multiples of {PATCH}")
        if "beside" in given:
            x = torch.cat((x, given["beside"]), dim=1)
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
        """All blocks by name, in order."""
        stacks = ("transformer_blocks", "single_transformer_blocks")
        return {f"{stack}.{index}": block for stack in stacks for index, block in enumerate(getattr(self, stack))}

    def _first_look(self, image: Tensor, text: Tensor, modulations: Tensor, rope: Tensor) -> Tensor:
        """Computes the normed and modulated image tokens (B, N, dim) that the first block's attention reads."""
        first = next(iter(self._blocks.values()))
        return first.first_look(image, modulations[:, : first.parts * self.config.dim])

    def _trunk(
        self, image: Tensor, text: Tensor, modulations: Tensor, rope: Tensor, *, seam: Seam, size: tuple[int, int]
    ) -> Tensor:
        """Runs all blocks on the joint sequence and returns the image tokens (B, N, dim)."""
        length, rope = text.shape[1], after_text(rope, text.shape[1])
        joint = torch.cat((text, image), dim=1)
        blocks = self._blocks
        own = modulations.split([block.parts * self.config.dim for block in blocks.values()], dim=-1)
        for (name, block), parts in zip(blocks.items(), own, strict=True):
            site = Site("block", name, 0, size, prefix=length, per_token=(1,))
            joint = seam(site, partial(block, seam=seam, site=site), joint, parts, rope)
        return joint[:, length:]


_known_rotary_table = lru_cache(maxsize=8)(rotary_table)
