"""Names of Z-Image's tensors in the authors' layout, in which projections of attention are fused."""

from torch import Tensor

from .config import PATCH, ZImageConfig

_HEADS = {  # in the authors' layout -> in the Hub's
    "x_embedder.": f"all_x_embedder.{PATCH}-1.",
    "final_layer.": f"all_final_layer.{PATCH}-1.",
}
_INSIDE = {
    ".attention.q_norm.": ".attention.norm_q.",
    ".attention.k_norm.": ".attention.norm_k.",
    ".attention.out.": ".attention.to_out.0.",
}
_FUSED = ".attention.qkv."
_UNREAD = "norm_final.weight"


def from_original(name: str, tensor: Tensor, config: ZImageConfig) -> dict[str, Tensor]:
    """Converts a tensor of the authors' layout to the Hub's; a tensor of the Hub's is returned as it is.

    Args:
        name: its name.
        tensor: the tensor.
        config: the architecture.

    Returns:
        Tensors by the Hub's names; none for a tensor that the network does not read.
    """
    if name == _UNREAD:
        return {}
    for old, new in _HEADS.items():
        name = new + name.removeprefix(old) if name.startswith(old) else name
    for old, new in _INSIDE.items():
        name = name.replace(old, new)
    if _FUSED in name and len(tensor) % 3 == 0:
        names = (name.replace(_FUSED, f".attention.to_{part}.") for part in "qkv")
        return dict(zip(names, tensor.chunk(3), strict=True))
    return {name: tensor}
