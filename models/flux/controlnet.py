"""ControlNets of Flux.1, with the parameter names of the Hub's FluxControlNetModel."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..controlnet.image_embedding import ImageEmbedding
from ..streams.kept import kept_by_block
from .controlnet_config import FluxControlNetConfig
from .flux import FluxTransformer
from .streams import FluxStreams

_HINT_WIDTHS = (16, 16, 16, 16)


class FluxControlNet(FluxStreams):
    """Blocks of Flux.1 that also read a control picture, and return residuals for those of the transformer.

    Args:
        config: the architecture.
    """

    steers: ClassVar[bool] = True
    fields: ClassVar[tuple[str, ...]] = ("in_channels", "dim", "joint_attention_dim", "pooled_projection_dim")
    """Fields of its config that the transformer's must equal."""

    def __init__(self, config: FluxControlNetConfig) -> None:
        super().__init__(config)
        self.modes = config.num_mode
        dim = config.dim
        self.controlnet_blocks = nn.ModuleList([nn.Linear(dim, dim) for _ in range(config.num_layers)])
        self.controlnet_single_blocks = nn.ModuleList([nn.Linear(dim, dim) for _ in range(config.num_single_layers)])
        if config.num_mode is not None:
            self.controlnet_mode_embedder = nn.Embedding(config.num_mode, dim)
        channels = config.conditioning_embedding_channels
        self.input_hint_block = None if channels is None else ImageEmbedding(_HINT_WIDTHS, channels)
        self.controlnet_x_embedder = nn.Linear(config.in_channels, dim)

    @property
    def downscale(self) -> int | None:
        """Pixels per latent position along one side; None if the autoencoder encodes the control picture."""
        return None if self.input_hint_block is None else 2 ** (len(_HINT_WIDTHS) - 1)

    def embed_picture(self, picture: Tensor) -> Tensor:
        """Maps control pictures (B, 3, H, W) in [-1, 1] to what stands for their latents, (B, C, h, w).

        Only networks with `conditioning_embedding_channels` have it.
        """
        assert self.input_hint_block is not None
        return self.input_hint_block(picture)

    @property
    def embeds_guidance(self) -> bool:
        """Whether the network is conditioned on the guidance strength."""
        return self.config.guidance_embeds

    def read(
        self,
        latents: Tensor,
        mode: Tensor,
        *,
        context: Tensor,
        pooled: Tensor,
        guidance: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Computes what all evaluations of a prompt and a control picture share.

        Args:
            latents: (B, C, h, w), the control picture, encoded or embedded.
            mode: (B,), control modes; used by a union ControlNet only.
            context: as in `FluxTransformer.forward`.
            pooled: likewise.
            guidance: likewise; ignored by a network that does not embed it.

        Returns:
            Output of `embed_prompt`, with the mode as first token of "text"; "control": embedding (B, N, dim).
        """
        given = self.embed_prompt(context, pooled, guidance if self.embeds_guidance else None)
        if self.modes is not None:
            given["text"] = torch.cat((self.controlnet_mode_embedder(mode)[:, None], given["text"]), dim=1)
        given["control"] = self.controlnet_x_embedder(self.packed(latents.to(pooled.dtype)))
        return given

    def inputs(
        self, x: Tensor, time: Tensor, given: Mapping[str, Tensor], steered: FluxTransformer
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns what `residuals` reads.

        Args:
            x: (B, C, h, w), latents.
            time: (1 or B, width), one step of `prepare_times`.
            given: output of `read`, with the rows of x.
            steered: the transformer; not used.
        """
        image, _, _ = self._embedded(x)
        return image + given["control"], given["text"], time.expand(x.shape[0], -1)

    def residuals(self, image: Tensor, text: Tensor, modulations: Tensor, *, size: tuple[int, int]) -> list[Tensor]:
        """Computes residuals (B, N, dim), one for each of its blocks.

        Args:
            image: image tokens (B, N, dim).
            text: text tokens (B, L, dim).
            modulations: (B, width).
            size: (h, w) of the grid of image tokens.
        """
        seam, outputs = kept_by_block()
        self._trunk(image, text, modulations, self._rope(size, image), seam=seam, size=size)
        layers = (*self.controlnet_blocks, *self.controlnet_single_blocks)
        return [layer(output) for layer, output in zip(layers, outputs, strict=True)]

    def targets(self, steered: FluxTransformer) -> list[int | None]:
        """Returns for each block of the transformer the index of its residual, None for none."""
        own, others = self.config, steered.config
        double: list[int | None] = _spread(own.num_layers, others.num_layers, repeat=self.input_hint_block is not None)
        single = _spread(own.num_single_layers, others.num_single_layers)
        return double + [None if index is None else own.num_layers + index for index in single]


def _spread(own: int, blocks: int, repeat: bool = False) -> list[int | None]:
    """Spreads the residuals of `own` blocks over `blocks`: each for neighbours, or in turn if they repeat."""
    if own == 0:
        return [None] * blocks
    if repeat:
        return [index % own for index in range(blocks)]
    return [index // math.ceil(blocks / own) for index in range(blocks)]
