"""Names of Wan's tensors in the authors' layout, which the files of ComfyUI have too."""

import re

from torch import Tensor

from .config import WanConfig

_TOP = {  # in the authors' layout -> in the Hub's
    "text_embedding.0.": "condition_embedder.text_embedder.linear_1.",
    "text_embedding.2.": "condition_embedder.text_embedder.linear_2.",
    "time_embedding.0.": "condition_embedder.time_embedder.linear_1.",
    "time_embedding.2.": "condition_embedder.time_embedder.linear_2.",
    "time_projection.1.": "condition_embedder.time_proj.",
    "img_emb.proj.0.": "condition_embedder.image_embedder.norm1.",
    "img_emb.proj.1.": "condition_embedder.image_embedder.ff.net.0.proj.",
    "img_emb.proj.3.": "condition_embedder.image_embedder.ff.net.2.",
    "img_emb.proj.4.": "condition_embedder.image_embedder.norm2.",
    "head.modulation": "scale_shift_table",
    "head.head.": "proj_out.",
}
_INSIDE = {  # of a block
    "modulation": "scale_shift_table",
    "norm3.": "norm2.",
    "ffn.0.": "ffn.net.0.proj.",
    "ffn.2.": "ffn.net.2.",
}
_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0", "k_img": "add_k_proj", "v_img": "add_v_proj"}
_NORMS = {"norm_q": "norm_q", "norm_k": "norm_k", "norm_k_img": "norm_added_k"}
_BLOCK = re.compile(r"(blocks\.\d+\.)(.+)", re.ASCII)
_OF_ATTENTION = re.compile(r"(self|cross)_attn\.(\w+)\.(\w+)", re.ASCII)


def from_original(name: str, tensor: Tensor, config: WanConfig) -> dict[str, Tensor]:
    """Converts a tensor of the authors' layout to the Hub's; a tensor of the Hub's is returned as it is.

    Args:
        name: its name.
        tensor: the tensor.
        config: the architecture.

    Returns:
        Tensors by the Hub's names.
    """
    if (found := _BLOCK.fullmatch(name)) is not None:
        return {found[1] + _inside(found[2]): tensor}
    return {_renamed(name, _TOP): tensor}


def _inside(name: str) -> str:
    """The Hub's name of a tensor of a block."""
    found = _OF_ATTENTION.fullmatch(name)
    if found is None:
        return _renamed(name, _INSIDE)
    layer = {**_ATTENTION, **_NORMS}.get(found[2], found[2])
    return f"{'attn1' if found[1] == 'self' else 'attn2'}.{layer}.{found[3]}"


def _renamed(name: str, table: dict[str, str]) -> str:
    """The name with the beginning that the table has replaced; other names are returned as they are."""
    start = next((start for start in table if name.startswith(start)), "")
    return table.get(start, "") + name.removeprefix(start)
