"""Architecture of a ControlNet of Stable Diffusion 3, read from its config.json."""

from dataclasses import dataclass, replace
from typing import ClassVar, Final, Self

from ..config import FLAG, NONE, WIDTH, Table, one_of
from .config import TABLE, SD3Config

OWNER: Final = "SD3ControlNetModel"


@dataclass(frozen=True)
class SD3ControlNetConfig(SD3Config):
    """Architecture of a ControlNet of Stable Diffusion 3; field names and defaults are those of its config.json.

    Attributes:
        joint_attention_dim: width of the text states; None if the network reads no text (3.5 large).
        pos_embed_max_size: side of the stored grid of positions; None if it reads the transformer's image tokens.
        use_pos_embed: whether the network embeds the latents itself.
        pos_embed_type: "sincos"; None if it does not.
        force_zeros_for_pooled_projection: whether it reads zeros for the pooled text, and latents of the control
            picture that are not shifted (InstantX).
        byte_range: whether control pictures are read from 0.5 to 128 in place of [-1, 1]; not in config.json.
    """

    table: ClassVar[Table] = replace(
        TABLE,
        owner=OWNER,
        names=(OWNER,),
        kinds={
            **TABLE.kinds,
            "joint_attention_dim": WIDTH | NONE,
            "pos_embed_max_size": WIDTH | NONE,
            "use_pos_embed": FLAG,
            "pos_embed_type": one_of("sincos") | NONE,
            "force_zeros_for_pooled_projection": FLAG,
        },
        only={**TABLE.only, "extra_conditioning_channels": (0,)},
        needs={**TABLE.needs, "extra_conditioning_channels": "ControlNets that also read a mask are not supported"},
    )

    joint_attention_dim: int | None = 4096  # type: ignore[assignment]
    pos_embed_max_size: int | None = 96  # type: ignore[assignment]
    use_pos_embed: bool = True
    pos_embed_type: str | None = "sincos"
    force_zeros_for_pooled_projection: bool = True
    byte_range: bool = False

    def check(self) -> None:
        if self.joint_attention_dim is not None:
            super().check()
        positions = self.pos_embed_max_size is not None and self.pos_embed_type is not None
        if self.use_pos_embed and not positions:
            raise ValueError(
                f"{OWNER} config: use_pos_embed=true with pos_embed_max_size={self.pos_embed_max_size} and "
                f"pos_embed_type={self.pos_embed_type} is not supported: give both, or use_pos_embed=false"
            )

    def named(self, name: str) -> Self:
        """Returns the config of a ControlNet with that name.

        Of those for 3.5 large, the Canny one alone was published with pictures in the range of bytes, which its config
        does not say.
        """
        return replace(self, byte_range=self.joint_attention_dim is None and "canny" in name.lower())
