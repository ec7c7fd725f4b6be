"""Loads text encoders of single files: CLIP and T5 under the Hub's names, OpenCLIP under its own."""

import re
from typing import Any

from torch import Tensor, nn

from ..strict import Convert, Loader, UnknownTensor
from ..text_encoder import add_encoder, empty_encoder, hub_names
from ..transformers_package import transformers_module
from .layout import Section, split_fused

_HEAD_DIM = 64  # of all published CLIP and OpenCLIP text encoder
_OPEN_TOP = {
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}
_OPEN_LAYER = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_OPEN_NAME = re.compile(r"transformer\.resblocks\.([0-9]{1,4})\.(.+)[._](weight|bias)")


def split_in_proj(layer: str, leaf: str, fused: Tensor) -> dict[str, Tensor]:
    """Split OpenCLIP's fused projection of query, key and value.

    Args:
        layer: Name of the layer in the Hub's layout.
        leaf: "weight" or "bias".
        fused: Shape (3 width, width) or (3 width,).

    Returns:
        The three projections, by their names in the Hub's layout.
    """
    parts = zip(("q_proj", "k_proj", "v_proj"), split_fused(fused, (1, 1, 1)), strict=True)
    return {f"{layer}.self_attn.{name}.{leaf}": part for name, part in parts}


def from_open_clip(layers: int, *, projection: bool) -> Convert:
    """The conversion of an OpenCLIP text encoder to the Hub's layout.

    Args:
        layers: Number of layers that are used; without `projection` the last layer of the file is not.
        projection: Whether the text projection is used.
    """

    def convert(name: str, tensor: Tensor) -> dict[str, Tensor]:
        if name in _OPEN_TOP:
            return {_OPEN_TOP[name]: tensor}
        if name == "text_projection":  # the Hub has the transpose
            return {"text_projection.weight": tensor.T.contiguous()} if projection else {}
        if name in ("logit_scale", "attn_mask"):
            return {}
        match = _OPEN_NAME.fullmatch(name)
        if match is None or match[2] not in (*_OPEN_LAYER, "attn.in_proj"):
            raise UnknownTensor(f"tensor {name!r} is not part of an OpenCLIP text encoder")
        index, module, leaf = match.groups()
        layer = f"text_model.encoder.layers.{index}"
        if int(index) == layers and not projection:
            return {}
        return (
            split_in_proj(layer, leaf, tensor)
            if module == "attn.in_proj"
            else {f"{layer}.{_OPEN_LAYER[module]}.{leaf}": tensor}
        )

    return convert


def from_clip(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """The conversion of CLIP, whose names are the Hub's. Position ids, projection and its scale are not used."""
    unused = name.endswith("position_ids") or name in ("text_projection.weight", "logit_scale")
    return {} if unused else {name: tensor}


def load_clip(section: Section, loader: Loader) -> Any:
    """Build the CLIP text encoder of `section`, a `transformers` CLIPTextModel; the loader reads its weights."""
    token = section.shape("text_model.embeddings.token_embedding.weight", "CLIP text encoder", 2)
    position = section.shape("text_model.embeddings.position_embedding.weight", "CLIP text encoder", 2)
    inner = section.shape("text_model.encoder.layers.0.mlp.fc1.weight", "CLIP text encoder", 2)[0]
    layers = section.count("text_model.encoder.layers")
    config = _clip_config(token, position[0], inner, layers, hidden_act="quick_gelu")
    return _add("CLIPTextModel", config, section, from_clip, loader)


def load_open_clip(section: Section, loader: Loader, *, projection: bool) -> Any:
    """Build the OpenCLIP text encoder of `section`; the loader reads its weights.

    Args:
        section: Its tensors.
        loader: Reads them.
        projection: True for a CLIPTextModelWithProjection with all layers (XL); False for a CLIPTextModel without the
            last layer, because SD 2.x is conditioned on that layer's input.
    """
    what = "OpenCLIP text encoder"
    token, position = section.shape("token_embedding.weight", what, 2), section.shape("positional_embedding", what, 2)
    inner = section.shape("transformer.resblocks.0.mlp.c_fc.weight", what, 2)[0]
    layers = section.count("transformer.resblocks") - (not projection)
    settings: dict[str, Any] = {"hidden_act": "gelu"}
    if projection:
        settings["projection_dim"] = section.shape("text_projection", what, 2)[1]
    config = _clip_config(token, position[0], inner, layers, **settings)
    class_name = "CLIPTextModelWithProjection" if projection else "CLIPTextModel"
    return _add(class_name, config, section, from_open_clip(layers, projection=projection), loader)


def _clip_config(token: tuple[int, ...], length: int, inner: int, layers: int, **settings: Any) -> Any:
    return transformers_module().CLIPTextConfig(
        vocab_size=token[0],
        hidden_size=token[1],
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=max(token[1] // _HEAD_DIM, 1),
        max_position_embeddings=length,
        bos_token_id=0,
        eos_token_id=2,  # in published configs this value means that the end token is the highest id
        pad_token_id=1,
        **settings,
    )


def load_t5(section: Section, loader: Loader) -> Any:
    """Build the T5 v1.1 encoder of `section`, a `transformers` T5EncoderModel; the loader reads its weights."""
    what, attention = "T5 encoder", "encoder.block.0.layer.0.SelfAttention"
    vocabulary, width = section.shape("shared.weight", what, 2)
    heads = section.shape(f"{attention}.relative_attention_bias.weight", what, 2)[1]
    config = transformers_module().T5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=section.shape(f"{attention}.q.weight", what, 2)[0] // heads,
        d_ff=section.shape("encoder.block.0.layer.1.DenseReluDense.wi_0.weight", what, 2)[0],
        num_layers=section.count("encoder.block"),
        num_heads=heads,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
    )

    def convert(name: str, tensor: Tensor) -> dict[str, Tensor]:
        return {} if name == "encoder.embed_tokens.weight" else {name: tensor}  # the same as shared.weight

    return _add("T5EncoderModel", config, section, convert, loader)


def _add(class_name: str, config: Any, section: Section, convert: Convert, loader: Loader) -> Any:
    """Build an encoder of a `transformers` class and match it with a section; the loader reads its weights later."""
    encoder = empty_encoder(getattr(transformers_module(), class_name), config, section.stored, section.label)
    return add_encoder(encoder, section.stored, _respelled(section.full(convert), encoder), section.label, loader)


def _respelled(convert: Convert, encoder: nn.Module) -> Convert:
    """The conversion `convert`, followed by the one to the names of the installed version of `transformers`."""
    spell = hub_names(encoder)

    def both(name: str, tensor: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for part, converted in convert(name, tensor).items():
            found |= spell(part, converted)
        return found

    return both
