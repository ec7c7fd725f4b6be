"""Loads Flux.1 transformers in the original layout: names, fused projections, config inferred from shapes."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from sadaflow.models import FluxConfig, FluxTransformer

from ..checkpoint import unchanged_name
from ..strict import Loader, UnknownTensor, renamed
from .layout import Section, add_section, join_fused, split_fused

_HEAD_DIM = 128  # of all published Flux.1; the rotary axes depend on it and do not follow from shapes

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
    """The Hub's names of the tensors that are fused, along the rows, in tensor `name` of the original layout.

    Raises:
        UnknownTensor: If the layout does not have the name.
    """
    module, _, leaf = name.rpartition(".")
    group, _, rest = module.partition(".")
    index, _, inner = rest.partition(".")
    prefix, table = (f"{_BLOCKS[group][0]}.{index}.", _BLOCKS[group][1]) if group in _BLOCKS else ("", _TOP)
    found = table.get(inner if prefix else module)
    if found is None or leaf not in ("weight", "bias", "scale"):
        raise UnknownTensor(f"tensor {name!r} is not part of the original Flux.1 layout")
    leaf = "weight" if leaf == "scale" else leaf
    return tuple(f"{prefix}{target}.{leaf}" for target in ((found,) if isinstance(found, str) else found))


def original_modules(config: FluxConfig) -> list[str]:
    """Names of the modules with weights in the original layout, without norms."""
    blocks = (("double_blocks", config.num_layers, _DOUBLE), ("single_blocks", config.num_single_layers, _SINGLE))
    names = [f"{group}.{i}.{inner}" for group, count, table in blocks for i in range(count) for inner in table]
    top = [name for name in _TOP if config.guidance_embeds or not name.startswith("guidance_in")]
    return [*top, *(name for name in names if ".norm." not in name)]


def swap_halves(tensor: Tensor) -> Tensor:
    """Exchange shift and scale of the final modulation: the original layout has shift first, the Hub's has scale."""
    return tensor.roll(len(tensor) // 2, dims=0) if tensor.dim() else tensor


def from_original(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Convert tensor `name` of the original layout to the Hub's; see `Convert`."""
    names = hub_names(name)
    if len(names) > 1:
        return dict(zip(names, split_fused(tensor, _SHARES[len(names)]), strict=True))
    return {names[0]: swap_halves(tensor) if names[0].startswith("norm_out.") else tensor}


def to_original(state: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Convert the Hub's `state` to the tensors `names` of the original layout."""
    made = {}
    for name in names:
        parts = [state[part] for part in hub_names(name)]
        made[name] = swap_halves(parts[0]) if name.startswith("final_layer.adaLN") else join_fused(parts)
    return made


def infer_config(section: Section) -> dict[str, Any]:
    """Infer the config.json of a transformer from its shapes, under the authors' names or the Hub's.

    Raises:
        ValueError: If they are not those of Flux.1.
    """
    hub = is_hub_named(section)

    def shape(name: str, dims: int = 2) -> tuple[int, ...]:
        return section.shape(hub_names(name)[0] if hub else name, "Flux.1 transformer", dims)

    width, channels = shape("img_in.weight")
    (head_dim,) = shape("single_blocks.0.norm.query_norm.scale", 1)
    if head_dim != _HEAD_DIM:
        raise ValueError(
            f"{section.label}: the heads are {head_dim} wide; only Flux.1's {_HEAD_DIM} is supported, because the "
            "rotary axes do not follow from shapes"
        )
    guidance = hub_names("guidance_in.in_layer.weight")[0] if hub else "guidance_in.in_layer.weight"
    return {
        "in_channels": channels,
        "out_channels": shape("final_layer.linear.weight")[0],
        "num_layers": section.count("transformer_blocks" if hub else "double_blocks"),
        "num_single_layers": section.count("single_transformer_blocks" if hub else "single_blocks"),
        "attention_head_dim": head_dim,
        "num_attention_heads": width // head_dim,
        "joint_attention_dim": shape("txt_in.weight")[1],
        "pooled_projection_dim": shape("vector_in.in_layer.weight")[1],
        "guidance_embeds": guidance in section.shapes,
    }


def is_hub_named(section: Section) -> bool:
    """Whether the tensors have the Hub's names."""
    return any(name.startswith("transformer_blocks.") for name in section.shapes)


def load(section: Section, loader: Loader) -> FluxTransformer:
    """Build the transformer of `section`; the loader reads its weights.

    Raises:
        ValueError: If tensors are missing, unexpected, misshaped or of the wrong type; each is named.
    """
    config = section.config(FluxConfig.from_dict, infer_config(section))
    network = section.build(lambda: FluxTransformer(config))
    return add_section(network, section, renamed(unchanged_name) if is_hub_named(section) else from_original, loader)
