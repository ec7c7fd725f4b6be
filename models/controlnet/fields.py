"""Fields of the config.json of the Hub's ControlNetModel: those of the U-Net it copies, and its own."""

from dataclasses import replace
from typing import Any

from ..config import SWITCH, WIDTHS
from ..unet.fields import TABLE as UNET_TABLE

EMBEDDING_WIDTHS = "conditioning_embedding_out_channels"
GLOBAL_POOL = "global_pool_conditions"
_GUIDANCE = "time_cond_proj_dim"
_OWN: dict[str, tuple[Any, ...]] = {
    "conditioning_channels": (3,),
    "controlnet_conditioning_channel_order": ("rgb", "bgr"),
    _GUIDANCE: (None,),
}
TABLE = replace(
    UNET_TABLE,
    owner="ControlNetModel",
    names=("ControlNetModel",),
    kinds={name: kind for name, kind in UNET_TABLE.kinds.items() if name != _GUIDANCE}
    | {EMBEDDING_WIDTHS: WIDTHS, GLOBAL_POOL: SWITCH},
    only={**UNET_TABLE.only, **_OWN},
    needs={
        **UNET_TABLE.needs,
        "num_control_type": "a union ControlNet needs the type of each control image",
    },
)
