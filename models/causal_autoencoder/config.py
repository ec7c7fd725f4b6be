"""Architecture of a causal video autoencoder, read from its config.json."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from ..autoencoder.config import AutoencoderConfig
from ..config import COUNT, COUNTS, FLAG, NONE, NUMBERS, QUANTIZED, TRAINING_LEFTOVERS, WIDTH, Table, list_of

TABLE = Table(
    "AutoencoderKLQwenImage",
    names=("AutoencoderKLQwenImage", "AutoencoderKLWan"),
    kinds={
        **dict.fromkeys(("base_dim", "z_dim", "input_channels", "in_channels", "out_channels"), WIDTH),
        **dict.fromkeys(("latents_mean", "latents_std"), NUMBERS),
        "dim_mult": COUNTS,
        "num_res_blocks": COUNT,
        "temperal_downsample": list_of(FLAG, "true or false"),
        "is_residual": FLAG,
        **dict.fromkeys(("decoder_base_dim", "patch_size"), WIDTH | NONE),
        **dict.fromkeys(("scale_factor_spatial", "scale_factor_temporal"), COUNT | NONE),
    },
    only={"attn_scales": ([],)},
    ignored={
        "clip_output": "videos are always clipped to the range of pixels, as in the published code",
        "dropout": "matters in training alone",
        **TRAINING_LEFTOVERS,
    },
    needs={"quantization_config": QUANTIZED},
)


@dataclass(frozen=True)
class CausalAutoencoderConfig(AutoencoderConfig):
    """Architecture of a causal video autoencoder.

    Attributes:
        halves_time: whether the step from each level of the encoder to the next halves the number of frames too.
        residual: whether levels have shortcuts without parameters across their resampling (Wan 2.2 TI2V).
        patch: pixels along each side of a square that the networks see as one position of patch^2 as many channels.
        decoder_channels: channels of each level of the decoder, outermost first; None means block_out_channels.
    """

    table: ClassVar[Table] = TABLE

    latent_channels: int = 16
    block_out_channels: tuple[int, ...] = (96, 192, 384, 384)
    layers_per_block: int = 2
    scaling_factor: float = 1.0
    halves_time: tuple[bool, ...] = (False, True, True)
    residual: bool = False
    patch: int = 1
    decoder_channels: tuple[int, ...] | None = None

    @property
    def downscale(self) -> int:
        return self.patch * super().downscale

    @property
    def for_decoder(self) -> Self:
        return replace(self, block_out_channels=self.decoder_channels or self.block_out_channels)

    @property
    def frames_per_latent(self) -> int:
        """Frames per latent frame; the first latent frame has a single frame."""
        return int(2 ** sum(self.halves_time))

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Builds the config from the checked fields of a config.json.

        Raises:
            ValueError: if a field is missing or two fields do not fit each other.
        """
        if missing := [name for name in ("latents_mean", "latents_std") if name not in fields]:
            raise ValueError(f"{cls.table.owner} config: {missing[0]} is missing")
        multiples = fields.get("dim_mult", (1, 2, 4, 4))
        halves_time = fields.get("temperal_downsample", cls.halves_time)
        if multiples[0] != 1:
            raise ValueError(f"{cls.table.owner} config: dim_mult={list(multiples)} must begin with 1")
        if len(halves_time) != len(multiples) - 1:
            raise ValueError(
                f"{cls.table.owner} config: temperal_downsample has {len(halves_time)} entries for {len(multiples)} "
                "levels (dim_mult); it needs an entry fewer than there are levels"
            )
        patch, decoder_base = fields.get("patch_size") or 1, fields.get("decoder_base_dim")
        config = cls(
            in_channels=cls._colours(fields, "in_channels", patch),
            out_channels=cls._colours(fields, "out_channels", patch),
            latent_channels=fields.get("z_dim", cls.latent_channels),
            block_out_channels=tuple(fields.get("base_dim", 96) * multiple for multiple in multiples),
            layers_per_block=fields.get("num_res_blocks", cls.layers_per_block),
            latents_mean=fields["latents_mean"],
            latents_std=fields["latents_std"],
            halves_time=halves_time,
            residual=fields.get("is_residual", False),
            patch=patch,
            decoder_channels=None if decoder_base is None else tuple(decoder_base * multiple for multiple in multiples),
        )
        config._check(fields)
        return config

    @classmethod
    def _colours(cls, fields: Mapping[str, Any], name: str, patch: int) -> int:
        """Channels of a picture, from the channels `name` that the networks see."""
        channels: int = fields.get(name, fields.get("input_channels", 3))
        if channels % patch**2:
            raise ValueError(
                f"{cls.table.owner} config: {name}={channels} is not a multiple of {patch**2}, the pixels of a patch "
                f"(patch_size={patch})"
            )
        return channels // patch**2

    def _check(self, fields: Mapping[str, Any]) -> None:
        """Raises ValueError if fields of a config.json contradict the architecture, or if shortcuts are impossible."""
        for name, own in (("scale_factor_spatial", self.downscale), ("scale_factor_temporal", self.frames_per_latent)):
            if fields.get(name, own) not in (own, None):
                raise ValueError(f"{self.table.owner} config: {name}={fields[name]}, but the levels make it {own}")
        widths = self.block_out_channels
        rests = [4 * before % width for before, width in zip(widths[:-2], widths[1:-1], strict=True)]
        if self.residual and any((*rests, widths[-2] % widths[-1])):
            raise ValueError(
                f"{self.table.owner} config: is_residual=true needs levels (dim_mult) whose width divides four times "
                f"that of the level before, and at the last level that width itself; they are {list(widths)} wide"
            )

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields of a config.json that `from_dict` reads as this architecture."""
        base = self.block_out_channels[0]
        return {
            "_class_name": self.table.owner,
            "base_dim": base,
            "z_dim": self.latent_channels,
            "dim_mult": [width // base for width in self.block_out_channels],
            "num_res_blocks": self.layers_per_block,
            "attn_scales": [],
            "temperal_downsample": list(self.halves_time),
            "dropout": 0.0,
            "input_channels": self.in_channels,
            "latents_mean": list(self.latents_mean or ()),
            "latents_std": list(self.latents_std or ()),
            **self._of_wan_22(),
        }

    def _of_wan_22(self) -> dict[str, Any]:
        """Further fields of a config.json, of those alone that are not as in Wan 2.1."""
        fields: dict[str, Any] = {}
        if self.residual:
            fields["is_residual"] = True
        if self.decoder_channels is not None:
            fields["decoder_base_dim"] = self.decoder_channels[0]
        if self.patch > 1:
            channels = {"in_channels": self.in_channels, "out_channels": self.out_channels}
            fields |= {name: count * self.patch**2 for name, count in channels.items()}
            fields |= {"patch_size": self.patch, "scale_factor_spatial": self.downscale}
        return fields
