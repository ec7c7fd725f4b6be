"""Architecture of a ControlNet, read from its config.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..unet.config import UNetConfig
from .fields import EMBEDDING_WIDTHS, GLOBAL_POOL, TABLE

_UP_OF = {"CrossAttnDownBlock2D": "CrossAttnUpBlock2D", "DownBlock2D": "UpBlock2D"}


@dataclass(frozen=True)
class ControlNetConfig:
    """Architecture of a ControlNet.

    Attributes:
        unet: the U-Net whose encoder it copies.
        embedding_widths: channels of the layers that embed the control image.
        bgr: whether the network expects the channels of the control image in BGR order.
        global_pool: whether residuals are averaged over the image; the network then steers the conditional branch of
            guidance only.
    """

    unet: UNetConfig
    embedding_widths: tuple[int, ...]
    bgr: bool
    global_pool: bool = False

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Reads a config.json.

        Args:
            raw: the JSON object.

        Raises:
            ValueError: if a field has a wrong value or requires an unsupported feature.
        """
        fields = (EMBEDDING_WIDTHS, GLOBAL_POOL, "down_block_types")
        own = TABLE.read({field: raw[field] for field in fields if field in raw})
        downs = own.get("down_block_types")
        ups = {} if downs is None else {"up_block_types": [_UP_OF.get(block, block) for block in reversed(downs)]}
        return cls(
            UNetConfig.from_dict({**raw, **ups}, TABLE),
            own.get(EMBEDDING_WIDTHS, (16, 32, 96, 256)),
            raw.get("controlnet_conditioning_channel_order") == "bgr",
            own.get(GLOBAL_POOL, False),
        )

    @property
    def downscale(self) -> int:
        """Pixels of the control image per latent position along one side."""
        return 2 ** (len(self.embedding_widths) - 1)
