"""ControlNet (Zhang et al. 2023, arXiv 2302.05543), with the parameter names of the Hub's ControlNetModel."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from ..conv import Conv2d
from ..embeddings import single_time
from ..unet.encoder import UNetEncoder
from .config import ControlNetConfig
from .image_embedding import ImageEmbedding


class ControlNet(UNetEncoder):
    """Copy of a U-Net's encoder that also reads an image and outputs residuals for the U-Net.

    Args:
        config: the architecture.
    """

    steers: ClassVar[bool] = True

    def __init__(self, config: ControlNetConfig) -> None:
        super().__init__(config.unet)
        self.bgr, self.downscale, self.global_pool = config.bgr, config.downscale, config.global_pool
        self.controlnet_cond_embedding = ImageEmbedding(config.embedding_widths, config.unet.block_out_channels[0])
        self.controlnet_down_blocks = nn.ModuleList([Conv2d(width, width, 1) for width in self.skip_widths])
        width = config.unet.block_out_channels[-1]
        self.controlnet_mid_block = Conv2d(width, width, 1)

    def forward(
        self,
        x: Tensor,
        timestep: Tensor | float,
        context: Tensor | None,
        image: Tensor,
        *,
        pooled: Tensor | None = None,
        time_ids: Tensor | None = None,
    ) -> list[Tensor]:
        """Computes residuals for the U-Net.

        Args:
            x: (B, in_channels, h, w), as in `UNet.forward`.
            timestep: as in `UNet.forward`.
            context: as in `UNet.forward`.
            image: (B, 3, H, W), RGB in [0, 1]; H and W are `downscale` times those of x.
            pooled: as in `UNet.forward`; ignored by a ControlNet without text_time conditioning.
            time_ids: as `pooled`.

        Returns:
            One residual per skip connection, outermost first, and one for the middle; of height and width 1 if the
            network averages them over the image.
        """
        given = self.read(image, context, pooled=pooled, time_ids=time_ids)
        time = self.prepare_times(single_time(timestep, x.device), given)[0]
        return self.evaluate(x, time, given)

    def read(
        self,
        image: Tensor,
        context: Tensor | None = None,
        *,
        pooled: Tensor | None = None,
        time_ids: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Computes what all evaluations of a prompt and image share; arguments as in `forward`.

        Returns:
            The tensors of `prepare`, and the embedded image (B, channels, h, w) as "image".

        Raises:
            ValueError: if a side of the image is not a multiple of `downscale`.
        """
        if any(side % self.downscale for side in image.shape[-2:]):
            raise ValueError(
                f"control image of size {tuple(image.shape[-2:])}: its sides must be multiples of {self.downscale}, "
                "the pixels per latent position"
            )
        if self.config.added_width is None:
            pooled = time_ids = None
        image = image.to(self.conv_in.weight.dtype)
        embedded = self.controlnet_cond_embedding(image.flip(1) if self.bgr else image)
        return {**self.prepare(context, pooled=pooled, time_ids=time_ids), "image": embedded}

    def evaluate(self, x: Tensor, time: Tensor, given: Mapping[str, Tensor]) -> list[Tensor]:
        """Computes residuals as `forward` does.

        Args:
            x: (B, in_channels, h, w).
            time: (1 or B, width), one step of `prepare_times`.
            given: output of `read`, with the rows of x.

        Raises:
            ValueError: if the image does not match the size of x.
        """
        image, inputs = given["image"], self.inputs(time, given)
        if image.shape[-2:] != x.shape[-2:]:
            height, width = (side * self.downscale for side in image.shape[-2:])
            raise ValueError(
                f"control image of size {(height, width)} for latents of size {tuple(x.shape[-2:])}: "
                f"{self.downscale} pixels per latent position are needed"
            )
        hidden = self.conv_in(x) + image
        residuals = []
        for shell, block in enumerate(self.controlnet_down_blocks):
            residuals.append(block(hidden))
            hidden = self.advance(hidden, inputs, shell)
        residuals.append(self.controlnet_mid_block(hidden))
        return [residual.mean((2, 3), keepdim=True) for residual in residuals] if self.global_pool else residuals
