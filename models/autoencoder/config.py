"""Architecture of a KL autoencoder, read from its config.json."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ..config import Table
from ..tiling import SHARED
from .fields import TABLE


@dataclass(frozen=True)
class AutoencoderConfig:
    """Architecture and latent scaling of a KL autoencoder; field names are those of its config.json.

    Attributes:
        in_channels: channels of an input image.
        out_channels: channels of an output image.
        latent_channels: channels of the latents.
        block_out_channels: channels of each level, outermost first.
        layers_per_block: residual blocks per encoder level; decoder levels have one more.
        norm_num_groups: groups of the norms.
        scaling_factor: factor between unscaled latents and those of the diffusion network.
        shift_factor: shift applied before the factor; None for none.
        use_quant_conv: whether a 1x1 convolution follows the encoder.
        use_post_quant_conv: whether a 1x1 convolution precedes the decoder.
        mid_block_add_attention: whether the middle has self-attention.
        force_upcast: whether the weights overflow in float16; older checkpoints without the field decode well in it.
        sample_size: side, or (height, width), in pixels of the training images.
        latents_mean: mean of each latent channel, if the diffusion network was trained on normalised latents.
        latents_std: standard deviation of each latent channel, likewise.
    """

    table: ClassVar[Table] = TABLE
    """Fields of its config.json."""

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

    @property
    def network_channels(self) -> int:
        """Channels of the latents that the diffusion network reads."""
        return self.latent_channels

    @property
    def for_decoder(self) -> Self:
        """The config whose block_out_channels are those of the decoder."""
        return self

    def scaled(self, latents: Tensor) -> Tensor:
        """Converts unscaled latents (B, C, ...) to those of the diffusion network."""
        if self.latents_mean is None or self.latents_std is None:
            return (latents - (self.shift_factor or 0.0)) * self.scaling_factor
        mean, std = (_per_channel(values, latents) for values in (self.latents_mean, self.latents_std))
        return (latents - mean) * self.scaling_factor / std

    def unscaled(self, latents: Tensor) -> Tensor:
        """Converts latents (B, C, ...) of the diffusion network to unscaled ones."""
        if self.latents_mean is None or self.latents_std is None:
            return latents / self.scaling_factor + (self.shift_factor or 0.0)
        mean, std = (_per_channel(values, latents) for values in (self.latents_mean, self.latents_std))
        return latents * std / self.scaling_factor + mean

    def safe_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Returns `dtype`, or float32 instead of a float16 that would overflow."""
        return torch.float32 if dtype is torch.float16 and self.force_upcast else dtype

    def check_tile(self, side: int | None) -> None:
        """Raises ValueError unless `side` is None or a valid `Autoencoder.tile`.

        Args:
            side: in pixels; valid are multiples of four latent positions.
        """
        unit = SHARED * self.downscale
        if side is not None and (type(side) is not int or side < unit or side % unit):
            raise ValueError(f"tile={side!r} is not supported; use multiples of {unit} pixels, such as {16 * unit}")

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Reads a config.json.

        Args:
            raw: the JSON object.

        Raises:
            ValueError: if a field has a wrong value or requires an unsupported feature.
        """
        config, owner = cls.from_fields(cls.table.read(raw)), cls.table.owner
        for field in ("latents_mean", "latents_std"):
            values = getattr(config, field)
            if (values is None) != (config.latents_mean is None):
                raise ValueError(f"{owner} config: latents_mean and latents_std go together; {field} is missing")
            if values is not None and len(values) != config.latent_channels:
                raise ValueError(
                    f"{owner} config: {field} has {len(values)} entries for {config.latent_channels} channels "
                    "(latent_channels)"
                )
        if config.latents_std is not None and min(config.latents_std) <= 0:
            raise ValueError(f"{owner} config: latents_std has {min(config.latents_std)}, but must be positive")
        return config

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Builds the config from the checked fields of a config.json."""
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields of a config.json that `from_dict` reads as this architecture."""
        levels = len(self.block_out_channels)
        return {
            **_plain(self),
            "_class_name": self.table.owner,
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
        }


def _per_channel(values: tuple[float, ...], latents: Tensor) -> Tensor:
    """A value for each channel of latents (B, C, ...), shaped to broadcast."""
    return latents.new_tensor(values).view(-1, *[1] * (latents.ndim - 2))


def _plain(config: AutoencoderConfig) -> dict[str, Any]:
    values = {name: x for name, x in asdict(config).items() if x is not None and name in config.table.kinds}
    return {name: list(x) if isinstance(x, tuple) else x for name, x in values.items()}
