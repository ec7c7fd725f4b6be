"""Names of Z-Image's tensors in the authors' layout, in which projections of attention are fused."""

from collections.abc import Mapping
from typing import Final

from ..original_layout import Fused, OriginalLayout, in_blocks
from .config import PATCH

_BLOCK: Final[Mapping[str, str | Fused]] = {
    "attention.qkv": Fused(("attention.to_q", "attention.to_k", "attention.to_v")),
    "attention.out": "attention.to_out.0",
    "attention.q_norm": "attention.norm_q",
    "attention.k_norm": "attention.norm_k",
}
_FINAL = ("linear", "adaLN_modulation.1")
ORIGINAL: Final = OriginalLayout(
    {
        "x_embedder": f"all_x_embedder.{PATCH}-1",
        **{f"final_layer.{name}": f"all_final_layer.{PATCH}-1.{name}" for name in _FINAL},
        **{
            old: new
            for stack in ("layers", "noise_refiner", "context_refiner")
            for old, new in in_blocks(stack, stack, _BLOCK).items()
        },
    },
    tensors={"norm_final.weight": None},
)
