"""Architecture of a causal video autoencoder, read from its config.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from ..autoencoder.config import AutoencoderConfig
from ..config import COUNT, COUNTS, FLAG, NUMBERS, QUANTIZED, TRAINING_LEFTOVERS, WIDTH, Table, list_of

_RESIDUAL = "the autoencoder of Wan 2.2 TI2V has another architecture"
TABLE = Table(
    "AutoencoderKLQwenImage",
    names=("AutoencoderKLQwenImage", "AutoencoderKLWan"),
    kinds={
        **dict.fromkeys(("base_dim", "z_dim", "input_channels", "in_channels", "out_channels"), WIDTH),
        **dict.fromkeys(("latents_mean", "latents_std"), NUMBERS),
        "dim_mult": COUNTS,
        "num_res_blocks": COUNT,
        "temperal_downsample": list_of(FLAG, "true or false"),
    },
    only={
        "attn_scales": ([],),
        "decoder_base_dim": (None,),
        "is_residual": (False,),
        "patch_size": (None,),
        "scale_factor_spatial": (8,),
        "scale_factor_temporal": (4,),
    },
    ignored={"dropout": "matters in training alone", **TRAINING_LEFTOVERS},
    needs={"quantization_config": QUANTIZED, "is_residual": _RESIDUAL, "patch_size": _RESIDUAL},
)


@dataclass(frozen=True)
class CausalAutoencoderConfig(AutoencoderConfig):
    """Architecture of a causal video autoencoder.

    Attributes:
        halves_time: whether the step from each level of the encoder to the next halves the number of frames too.
    """

    table: ClassVar[Table] = TABLE

    latent_channels: int = 16
    block_out_channels: tuple[int, ...] = (96, 192, 384, 384)
    layers_per_block: int = 2
    scaling_factor: float = 1.0
    halves_time: tuple[bool, ...] = (False, True, True)

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
        colours = fields.get("input_channels", 3)
        return cls(
            in_channels=fields.get("in_channels", colours),
            out_channels=fields.get("out_channels", colours),
            latent_channels=fields.get("z_dim", cls.latent_channels),
            block_out_channels=tuple(fields.get("base_dim", 96) * multiple for multiple in multiples),
            layers_per_block=fields.get("num_res_blocks", cls.layers_per_block),
            latents_mean=fields["latents_mean"],
            latents_std=fields["latents_std"],
            halves_time=halves_time,
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
        }
