"""The Flux.1 transformer (Black Forest Labs 2024), with the parameter names of the Hub's FluxTransformer2DModel."""

from typing import ClassVar

from torch import Tensor, nn

from ..embeddings import single_time
from ..original_layout import OriginalLayout
from ..seam import Seam, call_through
from ..streams.modulation import Modulation
from ..streams.packed import PackedTransformer
from .config import FluxConfig
from .original import ORIGINAL
from .streams import FluxStreams


class FluxTransformer(FluxStreams, PackedTransformer):
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
        super().__init__(config)
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
        given = self.embed_prompt(context, pooled, guidance)
        read = {"beside": beside, "edited": edited}
        return given | {name: latents.to(pooled.dtype) for name, latents in read.items() if latents is not None}

    @property
    def modulations(self) -> list[Modulation]:
        return [*super().modulations, self.norm_out]
