"""The Flux.1 transformer (Black Forest Labs 2024), with the parameter names of the Hub's FluxTransformer2DModel."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..embeddings import TimestepEmbedding, single_time, sinusoids
from ..original_layout import OriginalLayout
from ..seam import Seam, call_through
from ..streams.modulation import Modulation
from ..streams.packed import PackedTransformer
from ..streams.style import Style
from .config import OWNER, FluxConfig
from .original import ORIGINAL

_FEATURES = 256


class _Embedding(nn.Module):
    """Embedders of time, guidance (if the checkpoint is distilled on it) and pooled text; modulations use the sum."""

    def __init__(self, config: FluxConfig) -> None:
        super().__init__()
        self.timestep_embedder = TimestepEmbedding(_FEATURES, config.dim)
        if config.guidance_embeds:
            self.guidance_embedder = TimestepEmbedding(_FEATURES, config.dim)
        self.text_embedder = TimestepEmbedding(config.pooled_projection_dim, config.dim)


class FluxTransformer(PackedTransformer):
    """Flux.1 transformer that predicts the flow eps - x0 of latents x (B, C, h, w).

    `forward` runs three parts: `prepare` depends only on the prompt, `prepare_times` on the prompt and the time,
    `evaluate` also on x.

    `PackedTransformer` describes its sites.

    Args:
        config: the architecture.
    """

    original: ClassVar[OriginalLayout] = ORIGINAL
    """Names in the authors' layout."""

    def __init__(self, config: FluxConfig) -> None:
        super().__init__(config.dim, config.axes_dims_rope)
        self.config = config
        channels = (config.joint_attention_dim, config.in_channels)
        layers = (config.num_layers, config.num_single_layers)
        self.time_text_embed = _Embedding(config)
        self.add_streams(channels, config.num_attention_heads, layers, Style())
        self.norm_out = Modulation(config.dim, 2)
        self.proj_out = nn.Linear(config.dim, config.out_channels or config.in_channels)

    def forward(
        self,
        x: Tensor,
        timestep: Tensor | float,
        *,
        context: Tensor,
        pooled: Tensor,
        guidance: Tensor | None = None,
        beside: Tensor | None = None,
        edited: Tensor | None = None,
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
            edited: (B, C, h', w'), latents of a picture to edit, read as further tokens (Kontext); h' and w' even.
            seam: called at each site.

        Returns:
            The flow (B, C, h, w).

        Raises:
            ValueError: if `guidance` does not match the config, or if a side of the latents is odd.
        """
        given = self.prepare(context=context, pooled=pooled, guidance=guidance, beside=beside, edited=edited)
        time = self.prepare_times(single_time(timestep, x.device), given)[0]
        return self.evaluate(x, time, given, seam)

    def prepare(
        self,
        *,
        context: Tensor,
        pooled: Tensor,
        guidance: Tensor | None = None,
        beside: Tensor | None = None,
        edited: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Computes what all evaluations of a prompt share; arguments and errors as in `forward`.

        Returns:
            "text": tokens (B, L, dim); "pooled" and "guidance": embeddings (B, dim); "beside" and "edited": as given.
        """
        if (guidance is None) == self.config.guidance_embeds:
            remedy = "give guidance (B,)" if guidance is None else "leave guidance out"
            raise ValueError(f"guidance_embeds={self.config.guidance_embeds} in the {OWNER} config: {remedy}")
        embed = self.time_text_embed
        given = {"text": self.context_embedder(context), "pooled": embed.text_embedder(pooled)}
        if guidance is not None:
            strength = guidance.to(pooled.dtype) * 1000
            given["guidance"] = embed.guidance_embedder(sinusoids(strength, _FEATURES).to(pooled.dtype))
        read = {"beside": beside, "edited": edited}
        return given | {name: latents.to(pooled.dtype) for name, latents in read.items() if latents is not None}

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
