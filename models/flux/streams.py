"""What the Flux.1 transformer and its ControlNets have in common: embeddings of prompt and time, and the blocks."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..embeddings import TimestepEmbedding, sinusoids
from ..streams.modulation import Modulation
from ..streams.packed import PackedStreams
from ..streams.style import Style
from .config import FluxConfig

_FEATURES = 256


class _Embedding(nn.Module):
    """Embedders of time, guidance (if the checkpoint is distilled on it) and pooled text; modulations use the sum."""

    def __init__(self, config: FluxConfig) -> None:
        super().__init__()
        self.timestep_embedder = TimestepEmbedding(_FEATURES, config.dim)
        if config.guidance_embeds:
            self.guidance_embedder = TimestepEmbedding(_FEATURES, config.dim)
        self.text_embedder = TimestepEmbedding(config.pooled_projection_dim, config.dim)


class FluxStreams(PackedStreams):
    """Embeddings and blocks of Flux.1.

    Args:
        config: the architecture.
    """

    def __init__(self, config: FluxConfig) -> None:
        super().__init__(config.dim, config.axes_dims_rope)
        self.config = config
        channels = (config.joint_attention_dim, config.in_channels)
        layers = (config.num_layers, config.num_single_layers)
        self.time_text_embed = _Embedding(config)
        self.add_streams(channels, config.num_attention_heads, layers, Style())

    @property
    def modulations(self) -> list[Modulation]:
        """The layers whose outputs `prepare_times` concatenates."""
        return [layer for block in self._blocks.values() for layer in block.modulations]

    @property
    def time_width(self) -> int:
        """Width of the output of `prepare_times`."""
        return sum(layer.linear.out_features for layer in self.modulations)

    def embed_prompt(self, context: Tensor, pooled: Tensor, guidance: Tensor | None) -> dict[str, Tensor]:
        """Embeds prompts; arguments and errors as in `FluxTransformer.forward`.

        Returns:
            "text": tokens (B, L, dim); "pooled" and "guidance": embeddings (B, dim).
        """
        if (guidance is None) == self.config.guidance_embeds:
            remedy = "give guidance (B,)" if guidance is None else "leave guidance out"
            owner = self.config.table.owner
            raise ValueError(f"guidance_embeds={self.config.guidance_embeds} in the {owner} config: {remedy}")
        embed = self.time_text_embed
        given = {"text": self.context_embedder(context), "pooled": embed.text_embedder(pooled)}
        if guidance is not None:
            strength = guidance.to(pooled.dtype) * 1000
            given["guidance"] = embed.guidance_embedder(sinusoids(strength, _FEATURES).to(pooled.dtype))
        return given

    def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Computes the modulations of all blocks.

        Args:
            timesteps: (S, 1) or (S, B), timesteps of S steps.
            given: "pooled", and "guidance" if the network embeds it, (B, dim).

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
        return torch.cat([layer(activated) for layer in self.modulations], dim=-1)
