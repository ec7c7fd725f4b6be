"""Architecture of a ControlNet of Flux.1, read from its config.json."""

from dataclasses import dataclass, replace
from typing import ClassVar, Final

from ..config import COUNT, NONE, WIDTH, Table, whole
from ..streams.packed import PATCH
from .config import TABLE, FluxConfig

OWNER: Final = "FluxControlNetModel"


@dataclass(frozen=True)
class FluxControlNetConfig(FluxConfig):
    """Architecture of a ControlNet of Flux.1; field names and defaults are those of its config.json.

    Attributes:
        patch_size: 2 if the network embeds the control picture itself, else 1; its latents are read as 2 x 2 patches.
        num_mode: number of control modes of a union ControlNet; None for the ControlNet of a single condition.
        conditioning_embedding_channels: channels of the embedded control picture, those of the latents; None if the
            picture is encoded by the autoencoder.
    """

    table: ClassVar[Table] = replace(
        TABLE,
        owner=OWNER,
        names=(OWNER,),
        kinds={
            **{name: kind for name, kind in TABLE.kinds.items() if name != "out_channels"},
            "num_single_layers": whole(0, 1000),
            "num_mode": COUNT | NONE,
            "conditioning_embedding_channels": WIDTH | NONE,
            "patch_size": whole(1, PATCH),
        },
        only={},
    )

    patch_size: int = 1
    num_mode: int | None = None
    conditioning_embedding_channels: int | None = None

    def check(self) -> None:
        super().check()
        embedded, patch = self.conditioning_embedding_channels, self.patch_size
        if embedded not in (None, self.latent_channels) or patch != (1 if embedded is None else PATCH):
            raise ValueError(
                f"{OWNER} config: patch_size={patch} and conditioning_embedding_channels={embedded} with "
                f"in_channels={self.in_channels}; supported: 1 and null, or {PATCH} and {self.latent_channels}"
            )
