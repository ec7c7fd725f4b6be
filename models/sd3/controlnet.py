"""ControlNets of Stable Diffusion 3 and 3.5, with the parameter names of the Hub's SD3ControlNetModel."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..streams.kept import kept_by_block
from .block import ImageBlock
from .controlnet_config import SD3ControlNetConfig
from .network import SD3Transformer
from .streams import Patches, SD3Streams, joint_blocks


class SD3ControlNet(SD3Streams):
    """Blocks of Stable Diffusion 3 that also read a control picture, and return residuals for those of the transformer.

    Args:
        config: the architecture.
    """

    steers: ClassVar[bool] = True
    fields: ClassVar[tuple[str, ...]] = ("in_channels", "dim", "joint_attention_dim", "pooled_projection_dim")
    """Fields of its config that the transformer's must equal."""
    modes: ClassVar[None] = None

    config: SD3ControlNetConfig

    def __init__(self, config: SD3ControlNetConfig) -> None:
        dim, heads, reads_text = config.dim, config.num_attention_heads, config.joint_attention_dim is not None
        alone = [] if reads_text else [ImageBlock(dim, heads) for _ in range(config.num_layers)]
        super().__init__(config, alone or joint_blocks(config, ends=False))
        self.pos_embed = None
        if config.use_pos_embed:
            self.pos_embed = Patches(config.in_channels, dim, config.pos_embed_max_size)
        self.context_embedder = None
        if config.joint_attention_dim is not None:
            self.context_embedder = nn.Linear(config.joint_attention_dim, dim)
        self.controlnet_blocks = nn.ModuleList([nn.Linear(dim, dim) for _ in range(config.num_layers)])
        self.pos_embed_input = Patches(config.in_channels, dim, None)

    def read(self, latents: Tensor, mode: Tensor, *, context: Tensor, pooled: Tensor) -> dict[str, Tensor]:
        """Computes what all evaluations of a prompt and a control picture share.

        Args:
            latents: (B, C, h, w), the encoded control picture.
            mode: not used.
            context: as in `SD3Transformer.forward`.
            pooled: likewise.

        Returns:
            "text": tokens (B, L, dim), none if the network reads no text; "pooled": embedding (B, dim); "control":
            embedding (B, N, dim).
        """
        read = torch.zeros_like(pooled) if self.config.force_zeros_for_pooled_projection else pooled
        control = self.pos_embed_input(latents.to(pooled.dtype))
        text = control[:, :0] if self.context_embedder is None else self.context_embedder(context)
        return {"text": text, "pooled": self.time_text_embed.text_embedder(read), "control": control}

    def inputs(
        self, x: Tensor, time: Tensor, given: Mapping[str, Tensor], steered: SD3Transformer
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns what `residuals` reads.

        Args:
            x: (B, C, h, w), latents.
            time: (1 or B, width), one step of `prepare_times`.
            given: output of `read`, with the rows of x.
            steered: the transformer, which embeds the latents for networks that do not.
        """
        embed = steered.pos_embed if self.pos_embed is None else self.pos_embed
        return embed(x) + given["control"], given["text"], time.expand(x.shape[0], -1)

    def residuals(self, image: Tensor, text: Tensor, modulations: Tensor, *, size: tuple[int, int]) -> list[Tensor]:
        """Computes residuals (B, N, dim), one for each of its blocks.

        Args:
            image: image tokens (B, N, dim).
            text: text tokens (B, L, dim), none if the network reads no text.
            modulations: (B, width).
            size: (h, w) of the grid of image tokens.
        """
        seam, outputs = kept_by_block()
        self._trunk(image, text, modulations, seam=seam, size=size)
        return [layer(output) for layer, output in zip(self.controlnet_blocks, outputs, strict=True)]

    def targets(self, steered: SD3Transformer) -> list[int | None]:
        """Returns for each block of the transformer the index of its residual, None for the last."""
        blocks = steered.config.num_layers
        each = blocks / self.config.num_layers
        return [*(int(index / each) for index in range(blocks - 1)), None]
