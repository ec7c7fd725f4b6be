"""The architecture of a KL autoencoder, read from its config.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch

from ..tiling import SHARED
from .fields import TABLE


@dataclass(frozen=True)
class AutoencoderConfig:
    """Architecture and latent scaling of a KL autoencoder; field names are those of its config.json.

    `force_upcast` marks weights that overflow in float16; checkpoints older than the field decode well in it.
    `sample_size` is the side in pixels (or height and width) of the pictures that it was trained on. `latents_mean` and
    `latents_std` are the statistics of each latent channel, if the network in front of it was trained on latents that
    are normalised by them.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215
    shift_factor: float | None = None
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True
    force_upcast: bool = False
    sample_size: int | tuple[int, ...] | None = None
    latents_mean: tuple[float, ...] | None = None
    latents_std: tuple[float, ...] | None = None

    @property
    def downscale(self) -> int:
        """Pixels per latent position along one side."""
        return 2 ** (len(self.block_out_channels) - 1)

    def safe_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """`dtype`, or float32 in place of a float16 that would overflow."""
        return torch.float32 if dtype is torch.float16 and self.force_upcast else dtype

    def check_tile(self, side: int | None) -> None:
        """Raise ValueError for what is no `Autoencoder.tile`: a side that has no whole quarters in latent positions."""
        unit = SHARED * self.downscale
        if side is not None and (type(side) is not int or side < unit or side % unit):
            raise ValueError(f"tile={side!r} is no side in pixels; multiples of {unit} are, such as {16 * unit}")

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Reads a config.json; raises ValueError if a field has a wrong value, or asks for what is not supported."""
        config = cls(**TABLE.read(raw))
        for field in ("latents_mean", "latents_std"):
            values = getattr(config, field)
            if (values is None) != (config.latents_mean is None):
                raise ValueError(f"{TABLE.owner} config: latents_mean and latents_std go together, {field} is missing")
            if values is not None and len(values) != config.latent_channels:
                raise ValueError(
                    f"{TABLE.owner} config: {field} has {len(values)} entries for {config.latent_channels} channels "
                    "(latent_channels)"
                )
        if config.latents_std is not None and min(config.latents_std) <= 0:
            raise ValueError(f"{TABLE.owner} config: latents_std has {min(config.latents_std)}, which is not positive")
        return config
