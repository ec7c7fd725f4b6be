"""The FLUX.2 transformer (Black Forest Labs 2025), with the parameter names of the Hub's Flux2Transformer2DModel."""

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..embeddings import TimestepEmbedding, single_time, sinusoids
from ..original_layout import OriginalLayout
from ..rope import rotary_grid
from ..seam import Seam, Site, call_through
from ..streams.blocks import DoubleBlock
from ..streams.modulation import Modulation, modulated, parts_of
from ..streams.stack import run_blocks
from ..streams.style import Style
from .config import OWNER, Flux2Config
from .original import ORIGINAL
from .single import SingleBlock


class _Embedding(nn.Module):
    """Embedders of time, and of guidance if the checkpoint is distilled on it; modulations use the sum."""

    def __init__(self, config: Flux2Config) -> None:
        super().__init__()
        features, dim = config.timestep_guidance_channels, config.dim
        self.timestep_embedder = TimestepEmbedding(features, dim, bias=False)
        if config.guidance_embeds:
            self.guidance_embedder = TimestepEmbedding(features, dim, bias=False)


class Flux2Transformer(nn.Module):
    """FLUX.2 transformer that predicts the flow eps - x0 of latents x (B, C, h, w), with a token for each position.

    `forward` runs three parts: `prepare` depends only on the prompt, `prepare_times` on the prompt and the time,
    `evaluate` also on x.

    Sites: the stack of blocks is a "trunk" with `fn(image, text, text_rope, modulations, rope)`, which maps image
    tokens (B, N, dim) to image tokens, given text tokens (B, L, dim) with their rotary table, the modulations of all
    blocks (B, width) and the rotary table (B, N, head_dim/2, 2) of the image tokens. Inside it, each block is a "block"
    on the joint sequence (text first) with `fn(joint, modulations, rope)`. Its attention is an "attention".

    Args:
        config: the architecture.
    """

    sites: ClassVar[frozenset[str]] = frozenset({"trunk", "block", "attention"})
    """Kinds of sites in this network."""
    original: ClassVar[OriginalLayout] = ORIGINAL
    """Names in the authors' layout."""

    def __init__(self, config: Flux2Config) -> None:
        super().__init__()
        self.config = config
        dim, heads = config.dim, config.num_attention_heads
        style = Style(bias=False, modulated=False, gated=config.mlp_ratio)
        self.time_guidance_embed = _Embedding(config)
        self.double_stream_modulation_img = Modulation(dim, 6, bias=False)
        self.double_stream_modulation_txt = Modulation(dim, 6, bias=False)
        self.single_stream_modulation = Modulation(dim, 3, bias=False)
        self.x_embedder = nn.Linear(config.in_channels, dim, bias=False)
        self.context_embedder = nn.Linear(config.joint_attention_dim, dim, bias=False)
        self.transformer_blocks = nn.ModuleList([DoubleBlock(dim, heads, style) for _ in range(config.num_layers)])
        self.single_transformer_blocks = nn.ModuleList(
            [SingleBlock(dim, heads, config.mlp_ratio) for _ in range(config.num_single_layers)]
        )
        self.norm_out = Modulation(dim, 2, bias=False)
        self.proj_out = nn.Linear(dim, config.out_channels or config.in_channels, bias=False)

    def forward(
        self,
        x: Tensor,
        timestep: Tensor | float,
        *,
        context: Tensor,
        guidance: Tensor | None = None,
        seam: Seam = call_through,
    ) -> Tensor:
        """Computes the prediction.

        Args:
            x: (B, C, h, w).
            timestep: 1000 t, a number or (B,).
            context: (B, L, joint_attention_dim), states of the text encoder.
            guidance: (B,), guidance strengths; required if and only if the config has guidance_embeds.
            seam: called at each site.

        Returns:
            The flow (B, C, h, w).

        Raises:
            ValueError: if `guidance` does not match the config.
        """
        given = self.prepare(context=context, guidance=guidance)
        time = self.prepare_times(single_time(timestep, x.device), given)[0]
        return self.evaluate(x, time, given, seam)

    def prepare(self, *, context: Tensor, guidance: Tensor | None = None) -> dict[str, Tensor]:
        """Computes what all evaluations of a prompt share; arguments and errors as in `forward`.

        Returns:
            "text": tokens (B, L, dim); "guidance", if the config has guidance_embeds: embedding (B, dim).
        """
        if (guidance is None) == self.config.guidance_embeds:
            remedy = "give guidance (B,)" if guidance is None else "leave guidance out"
            raise ValueError(f"guidance_embeds={self.config.guidance_embeds} in the {OWNER} config: {remedy}")
        given = {"text": self.context_embedder(context)}
        if guidance is not None:
            strength = guidance.to(context.dtype) * 1000
            given["guidance"] = self.time_guidance_embed.guidance_embedder(self._features(strength, context.dtype))
        return given

    def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Computes the modulations, which are the same for all blocks of a kind.

        Args:
            timesteps: (S, 1) or (S, B), timesteps of S steps.
            given: output of `prepare`.

        Returns:
            (S, 1 or B, width).
        """
        dtype = given["text"].dtype
        # In half precision published codes round the time like this, and the embedding amplifies it.
        times = timesteps.to(dtype) / 1000 * 1000
        features = self._features(times.flatten(), dtype)
        embedding = self.time_guidance_embed.timestep_embedder(features).unflatten(0, times.shape)
        if "guidance" in given:
            embedding = embedding + given["guidance"]
        activated = F.silu(embedding)
        double = (self.double_stream_modulation_img, self.double_stream_modulation_txt)
        return torch.cat([layer(activated) for layer in (*double, self.single_stream_modulation, self.norm_out)], -1)

    def evaluate(self, x: Tensor, time: Tensor, given: Mapping[str, Tensor], seam: Seam = call_through) -> Tensor:
        """Computes the prediction at x.

        Args:
            x: (B, C, h, w).
            time: (1 or B, width), one step of `prepare_times`.
            given: output of `prepare`, with the rows of x.
            seam: called at each site.

        Returns:
            The flow (B, C, h, w).
        """
        samples, size, dim, text = x.shape[0], (x.shape[2], x.shape[3]), self.config.dim, given["text"]
        image = self.x_embedder(rearrange(x, "b c h w -> b (h w) c"))
        table = _tables if torch.compiler.is_compiling() else _known_tables
        axes, theta = self.config.axes_dims_rope, self.config.rope_theta
        text_rope, rope = (
            part.expand(samples, -1, -1, -1) for part in table(size, text.shape[1], axes, theta, x.device)
        )
        modulations, last = time.expand(samples, -1).split((time.shape[-1] - 2 * dim, 2 * dim), dim=-1)
        site = Site("trunk", "trunk", 0, size, per_token=(3,), per_prefix=(0, 1), probe=self._first_look)
        trunk = partial(self._trunk, seam=seam, size=size)
        image = seam(site, trunk, image, text, text_rope, modulations, rope)
        scale, shift = parts_of(last, 2)
        tokens = self.proj_out(modulated(image, shift, scale))
        return rearrange(tokens, "b (h w) c -> b c h w", h=size[0])

    def _features(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """Sinusoids (B, features) of times or guidance strengths (B,)."""
        return sinusoids(values, self.config.timestep_guidance_channels).to(dtype)

    def _first_look(self, image: Tensor, text: Tensor, text_rope: Tensor, modulations: Tensor, rope: Tensor) -> Tensor:
        """Computes the normed and modulated image tokens (B, N, dim) that the first block's attention reads."""
        first = self.transformer_blocks[0]
        assert isinstance(first, DoubleBlock)
        return first.first_look(image, modulations[:, : first.parts * self.config.dim])

    def _trunk(
        self,
        image: Tensor,
        text: Tensor,
        text_rope: Tensor,
        modulations: Tensor,
        rope: Tensor,
        *,
        seam: Seam,
        size: tuple[int, int],
    ) -> Tensor:
        """Runs all blocks on the joint sequence and returns the image tokens (B, N, dim)."""
        double, single = modulations.split((12 * self.config.dim, 3 * self.config.dim), dim=-1)
        stacks = (("transformer_blocks", double), ("single_transformer_blocks", single))
        named = [(f"{name}.{i}", block, own) for name, own in stacks for i, block in enumerate(getattr(self, name))]
        blocks = {name: block for name, block, _ in named}
        joint_rope = torch.cat((text_rope, rope), dim=1)
        return run_blocks(blocks, (text, image), [own for *_, own in named], (joint_rope,), seam, size)


def _tables(
    size: tuple[int, int], length: int, dims: tuple[int, ...], theta: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Rotary tables of text tokens (length, head_dim/2, 2), and of the image tokens of an (h, w) grid."""
    none, (height, width) = range(1), size
    text = rotary_grid((none, none, none, range(length)), dims, device, theta)
    return text, rotary_grid((none, range(height), range(width), none), dims, device, theta)


_known_tables = lru_cache(maxsize=8)(_tables)
