"""Flux.1 transformers in the layout of their authors, read as the Hub's layout."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from sadaflow.models import FluxConfig, FluxTransformer

from ..strict import Loader, UnknownTensor
from .layout import Section, join_fused, place, split_fused

_HEAD_DIM = 128  # of every published Flux.1; the rotary axes, which no tensor shows, go with it

_EMBEDDERS = {
    "time_in": "time_text_embed.timestep_embedder",
    "guidance_in": "time_text_embed.guidance_embedder",
    "vector_in": "time_text_embed.text_embedder",
}
_TOP = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
    "final_layer.linear": "proj_out",
    **{f"{old}.in_layer": f"{new}.linear_1" for old, new in _EMBEDDERS.items()},
    **{f"{old}.out_layer": f"{new}.linear_2" for old, new in _EMBEDDERS.items()},
}
_DOUBLE: dict[str, str | tuple[str, ...]] = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "img_attn.proj": "attn.to_out.0",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "img_mod.lin": "norm1.linear",
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
    "txt_attn.proj": "attn.to_add_out",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
    "txt_mod.lin": "norm1_context.linear",
}
_SINGLE: dict[str, str | tuple[str, ...]] = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": "proj_out",
    "modulation.lin": "norm.linear",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
}
_BLOCKS = {"double_blocks": ("transformer_blocks", _DOUBLE), "single_blocks": ("single_transformer_blocks", _SINGLE)}
_SHARES = {3: (1, 1, 1), 4: (1, 1, 1, 4)}  # rows of query, key, value and feed-forward in a fused projection


def hub_names(name: str) -> tuple[str, ...]:
    """The Hub's names of what tensor `name` of the original layout holds: one, or several fused along the rows.

    Raises UnknownTensor for a name that the layout does not have.
    """
    module, _, leaf = name.rpartition(".")
    group, _, rest = module.partition(".")
    index, _, inner = rest.partition(".")
    prefix, table = (f"{_BLOCKS[group][0]}.{index}.", _BLOCKS[group][1]) if group in _BLOCKS else ("", _TOP)
    found = table.get(inner if prefix else module)
    if found is None or leaf not in ("weight", "bias", "scale"):
        raise UnknownTensor(f"tensor {name!r} is none of the original Flux.1 layout")
    leaf = "weight" if leaf == "scale" else leaf
    return tuple(f"{prefix}{target}.{leaf}" for target in ((found,) if isinstance(found, str) else found))


def original_modules(config: FluxConfig) -> list[str]:
    """The modules with weights in the original layout, norms aside."""
    blocks = (("double_blocks", config.num_layers, _DOUBLE), ("single_blocks", config.num_single_layers, _SINGLE))
    names = [f"{group}.{i}.{inner}" for group, count, table in blocks for i in range(count) for inner in table]
    top = [name for name in _TOP if config.guidance_embeds or not name.startswith("guidance_in")]
    return [*top, *(name for name in names if ".norm." not in name)]


def swap_halves(tensor: Tensor) -> Tensor:
    """The final modulation gives shift, then scale in the original layout, and the other way round on the Hub."""
    return tensor.roll(len(tensor) // 2, dims=0) if tensor.dim() else tensor


def from_original(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Tensor `name` of the original layout under the Hub's names."""
    names = hub_names(name)
    if len(names) > 1:
        return dict(zip(names, split_fused(tensor, _SHARES[len(names)]), strict=True))
    return {names[0]: swap_halves(tensor) if names[0].startswith("norm_out.") else tensor}


def to_original(state: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """The tensors of the Hub's `state` in the original layout, whose `names` are given."""
    made = {}
    for name in names:
        parts = [state[part] for part in hub_names(name)]
        made[name] = swap_halves(parts[0]) if name.startswith("final_layer.adaLN") else join_fused(parts)
    return made


def infer_config(section: Section) -> dict[str, Any]:
    """The config.json of the transformer in `section`."""

    def shape(name: str, dims: int = 2) -> tuple[int, ...]:
        return section.shape(name, "Flux.1 transformer", dims)

    width, channels = shape("img_in.weight")
    (head_dim,) = shape("single_blocks.0.norm.query_norm.scale", 1)
    if head_dim != _HEAD_DIM:
        raise ValueError(
            f"{section.place}: the heads are {head_dim} wide; Flux.1 has {_HEAD_DIM}, and no tensor tells the rest"
        )
    return {
        "in_channels": channels,
        "out_channels": shape("final_layer.linear.weight")[0],
        "num_layers": section.count("double_blocks"),
        "num_single_layers": section.count("single_blocks"),
        "attention_head_dim": head_dim,
        "num_attention_heads": width // head_dim,
        "joint_attention_dim": shape("txt_in.weight")[1],
        "pooled_projection_dim": shape("vector_in.in_layer.weight")[1],
        "guidance_embeds": "guidance_in.in_layer.weight" in section.shapes,
    }


def load(section: Section, loader: Loader) -> FluxTransformer:
    """The transformer in `section`. Raises ValueError naming what is missing, unexpected or misshaped."""
    config = section.config(FluxConfig.from_dict, infer_config(section))
    network = section.build(lambda: FluxTransformer(config))
    return place(network, section, from_original, loader)
