"""Loads Flux.1 transformers of single files, whose config is inferred from shapes."""

from typing import Any

from sadaflow.models import FluxConfig, FluxTransformer

from ..strict import Loader
from .layout import Section, add_section

_HEAD_DIM = 128  # of all published Flux.1; the rotary axes depend on it and do not follow from shapes

def infer_config(section: Section) -> dict[str, Any]:
    """Infer the config.json of a transformer from its shapes, under the authors' names or the Hub's.

    Raises:
        ValueError: If they are not those of Flux.1.
    """
    hub = is_hub_named(section)

    def shape(name: str, dims: int = 2) -> tuple[int, ...]:
        return section.shape(FluxTransformer.original.names(name)[0] if hub else name, "Flux.1 transformer", dims)

    width, channels = shape("img_in.weight")
    (head_dim,) = shape("single_blocks.0.norm.query_norm.scale", 1)
    if head_dim != _HEAD_DIM:
        raise ValueError(
            f"{section.label}: the heads are {head_dim} wide; only Flux.1's {_HEAD_DIM} is supported, because the "
            "rotary axes do not follow from shapes"
        )
    guidance = "guidance_in.in_layer.weight"
    guidance = FluxTransformer.original.names(guidance)[0] if hub else guidance
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
    return add_section(network, section, network.original.convert, loader)
