"""The Chroma transformer (lodestones 2025), with the parameter names of the Hub's ChromaTransformer2DModel.

It is Flux.1's, except that one network computes the modulations of all blocks from the time alone.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..embeddings import TimestepEmbedding, single_time, sinusoids
from ..original_layout import OriginalLayout
from ..seam import Seam, call_through
from ..streams.packed import PackedTransformer
from ..streams.style import Style
from .config import ChromaConfig
from .original import ORIGINAL


class _Approximator(nn.Module):
    """Residual perceptron that computes a modulation vector from the sinusoids of time and of the vector's index."""

    def __init__(self, config: ChromaConfig) -> None:
        super().__init__()
        hidden, layers = config.approximator_hidden_dim, range(config.approximator_layers)
        self.in_proj = nn.Linear(config.approximator_num_channels, hidden)
        self.layers = nn.ModuleList([TimestepEmbedding(hidden, hidden) for _ in layers])
        self.norms = nn.ModuleList([nn.RMSNorm(hidden) for _ in layers])
        self.out_proj = nn.Linear(hidden, config.dim)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.in_proj(features)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            hidden = hidden + layer(norm(hidden))
        return self.out_proj(hidden)


class ChromaTransformer(PackedTransformer):
    """Chroma transformer that predicts the flow eps - x0 of latents x (B, C, h, w).

    `forward` runs three parts: `prepare` depends only on the prompt, `prepare_times` on the time, `evaluate` also on x.

    `PackedTransformer` describes its sites.

    Args:
        config: the architecture.
    """

    original: ClassVar[OriginalLayout] = ORIGINAL
    """Names in the authors' layout."""
    scale_first = False

    def __init__(self, config: ChromaConfig) -> None:
        super().__init__(config.dim, config.axes_dims_rope)
        self.config = config
        channels = (config.joint_attention_dim, config.in_channels)
        layers = (config.num_layers, config.num_single_layers)
        self.distilled_guidance_layer = _Approximator(config)
        self.add_streams(channels, config.num_attention_heads, layers, Style(modulated=False))
        self.proj_out = nn.Linear(config.dim, config.out_channels or config.in_channels)

    def forward(
        self,
        x: Tensor,
        timestep: Tensor | float,
        *,
        context: Tensor,
        mask: Tensor | None = None,
        seam: Seam = call_through,
    ) -> Tensor:
        """Computes the prediction.

        Args:
            x: (B, C, h, w), h and w even.
            timestep: 1000 t, a number or (B,).
            context: (B, L, joint_attention_dim), T5 states.
            mask: (B, L), bool, which text tokens are attended to; None for all.
            seam: called at each site.

        Returns:
            The flow (B, C, h, w).

        Raises:
            ValueError: if h or w is odd.
        """
        given = self.prepare(context=context, mask=mask)
        time = self.prepare_times(single_time(timestep, x.device), given)[0]
        return self.evaluate(x, time, given, seam)

    def prepare(self, *, context: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Computes what all evaluations of a prompt share; arguments as in `forward`.

        Returns:
            "text": tokens (B, L, dim); "mask", if it is given.
        """
        return {"text": self.context_embedder(context), **({} if mask is None else {"mask": mask})}

    def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Computes the modulations of all blocks.

        Args:
            timesteps: (S, 1) or (S, B), timesteps of S steps.
            given: output of `prepare`.

        Returns:
            (S, 1 or B, width).
        """
        dtype, quarter = given["text"].dtype, self.config.approximator_num_channels // 4
        # In half precision published codes round the time like this, and the network amplifies it.
        times = timesteps.to(dtype) / 1000 * 1000
        features = sinusoids(times.flatten(), quarter).to(dtype).unflatten(0, times.shape)
        guidance = sinusoids(times.new_zeros(1), quarter).to(dtype).expand_as(features)
        order = list(self._order())
        indices = torch.tensor(order, device=times.device) * 1000
        places = sinusoids(indices, 2 * quarter).to(dtype).expand(*times.shape, -1, -1)
        known = torch.cat((features, guidance), dim=-1)[..., None, :].expand(-1, -1, len(order), -1)
        return self.distilled_guidance_layer(torch.cat((known, places), dim=-1)).flatten(-2)

    def _order(self) -> Iterator[int]:
        """Indices of the modulation vectors, in the order in which the blocks need them.

        The network's own order is: 3 for each single-stream block, 6 for the image in each double-stream block, 6 for
        the text in each, 2 for the last layer.
        """
        double, single = self.config.num_layers, self.config.num_single_layers
        for block in range(double):
            for stream in range(2):
                first = 3 * single + 6 * double * stream + 6 * block
                yield from range(first, first + 6)
        yield from range(3 * single)
        last = 3 * single + 12 * double
        yield from range(last, last + 2)
