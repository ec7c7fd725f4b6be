"""Loads text encoders of single files: CLIP and T5 under the Hub's names, OpenCLIP under its own."""

import re
from typing import Any

from torch import Tensor, nn

from sadaflow.models.original_layout import split_fused

from ..strict import Convert, Loader, UnknownTensor
from ..text_encoder import add_encoder, empty_encoder, hub_names
from ..transformers_package import transformers_module
from .layout import Section

_HEAD_DIM = 64  # of all published CLIP and OpenCLIP text encoder
_SD2_LAYERS = 23  # of the 24 of OpenCLIP ViT-H: SD 2.x reads the penultimate output
_PICTURES = ("vision_model.", "visual_projection.", "visual.")  # the half of CLIP that embeds pictures
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
        layers: Number of layers that are used; without `projection` further layers of the file are not.
        projection: Whether the text projection is used.
    """

    def convert(name: str, tensor: Tensor) -> dict[str, Tensor]:
        if name in _OPEN_TOP:
            return {_OPEN_TOP[name]: tensor}
        if name in ("text_projection", "text_projection.weight"):  # the Hub has the transpose of the first
            weight = tensor.T.contiguous() if name == "text_projection" else tensor
            return {"text_projection.weight": weight} if projection else {}
        if name in ("logit_scale", "attn_mask") or name.startswith(_PICTURES):
            return {}
        match = _OPEN_NAME.fullmatch(name)
        if match is None or match[2] not in (*_OPEN_LAYER, "attn.in_proj"):
            raise UnknownTensor(f"tensor {name!r} is not part of an OpenCLIP text encoder")
        index, module, leaf = match.groups()
        layer = f"text_model.encoder.layers.{index}"
        if int(index) >= layers and not projection:
            return {}
        return (
            split_in_proj(layer, leaf, tensor)
            if module == "attn.in_proj"
            else {f"{layer}.{_OPEN_LAYER[module]}.{leaf}": tensor}
        )

    return convert


def used_layers(section: Section) -> int:
    """The number of layers of an OpenCLIP encoder that SD 2.x is conditioned on: its input to the last of 24.

    Files hold all 24 layers, or the 23 that are used (the Hub's encoder, converted back). Encoders of less than 22
    layers are small copies; they are whole if they have a projection, which the Hub's encoder lacks.
    """
    layers = section.count("transformer.resblocks")
    if layers >= _SD2_LAYERS - 1:
        return min(layers, _SD2_LAYERS)
    return layers - any(name in section.shapes for name in ("text_projection", "text_projection.weight"))


def from_clip(*, projection: bool = False) -> Convert:
    """The conversion of CLIP, whose names are the Hub's; what belongs to its other half is not used.

    Args:
        projection: Whether the text projection is used.
    """
    unused = ("logit_scale", *(() if projection else ("text_projection.weight", "text_projection")))

    def convert(name: str, tensor: Tensor) -> dict[str, Tensor]:
        return {} if name in unused or name.startswith(_PICTURES) else {name: tensor}

    return convert


def load_text(section: Section, style: str, loader: Loader, *, projection: bool = False) -> Any:
    """Build the text encoder of `section`; the loader reads its weights.

    Args:
        section: Its tensors.
        style: "clip", "open_clip", "clip_g" or "clip_h" (OpenCLIP under CLIP's names), or "t5".
        loader: Reads them.
        projection: Whether its projected pooled state is used (XL).

    Raises:
        ValueError: If tensors are missing, unexpected, misshaped or of the wrong type; each is named.
    """
    if style == "t5":
        return load_t5(section, loader)
    if style == "open_clip":
        return load_open_clip(section, loader, projection=projection)
    return load_clip(section, loader, act="quick_gelu" if style == "clip" else "gelu", projection=projection)


def load_clip(section: Section, loader: Loader, *, act: str = "quick_gelu", projection: bool = False) -> Any:
    """Build the text encoder of `section` under CLIP's names, with or without "text_model."; see `load_open_clip`.

    Args:
        section: Its tensors.
        loader: Reads them.
        act: Activation of its layers: "quick_gelu" of CLIP, "gelu" of OpenCLIP.
        projection: True for a CLIPTextModelWithProjection.
    """
    start, what = "text_model." if any(n.startswith("text_model.") for n in section.shapes) else "", "CLIP text encoder"
    token = section.shape(f"{start}embeddings.token_embedding.weight", what, 2)
    position = section.shape(f"{start}embeddings.position_embedding.weight", what, 2)
    inner = section.shape(f"{start}encoder.layers.0.mlp.fc1.weight", what, 2)[0]
    settings: dict[str, Any] = {"hidden_act": act}
    if projection:
        settings["projection_dim"] = section.shape("text_projection.weight", what, 2)[0]
    config = _clip_config(token, position[0], inner, section.count(f"{start}encoder.layers"), **settings)
    class_name = "CLIPTextModelWithProjection" if projection else "CLIPTextModel"
    return _add(class_name, config, section, from_clip(projection=projection), loader)


def load_open_clip(section: Section, loader: Loader, *, projection: bool) -> Any:
    """Build the OpenCLIP text encoder of `section`; the loader reads its weights.

    Args:
        section: Its tensors.
        loader: Reads them.
        projection: True for a CLIPTextModelWithProjection with all layers (XL); False for a CLIPTextModel with the
            layers that SD 2.x is conditioned on, see `used_layers`.
    """
    what = "OpenCLIP text encoder"
    token, position = section.shape("token_embedding.weight", what, 2), section.shape("positional_embedding", what, 2)
    inner = section.shape("transformer.resblocks.0.mlp.c_fc.weight", what, 2)[0]
    layers = section.count("transformer.resblocks") if projection else used_layers(section)
    settings: dict[str, Any] = {"hidden_act": "gelu"}
    if projection:
        linear = "text_projection.weight" in section.shapes
        shape = section.shape("text_projection.weight" if linear else "text_projection", what, 2)
        settings["projection_dim"] = shape[0 if linear else 1]
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

    return _add("T5EncoderModel", config, section, from_t5, loader)


def from_t5(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """The conversion of T5, whose names are the Hub's; see `Convert`."""
    return {} if name == "encoder.embed_tokens.weight" else {name: tensor}  # the same as shared.weight


def _add(class_name: str, config: Any, section: Section, convert: Convert, loader: Loader) -> Any:
    """Build an encoder of a `transformers` class and match it with a section; the loader reads its weights later."""
    cls = getattr(transformers_module(), class_name)
    encoder = empty_encoder(lambda: cls(config), section.stored, section.label)
    return add_encoder(encoder, section.stored, respelled(section.full(convert), encoder), section.label, loader)


def respelled(convert: Convert, encoder: nn.Module, ignored: tuple[str, ...] = ()) -> Convert:
    """The conversion `convert`, followed by the one to the names of the installed version of `transformers`."""
    spell = hub_names(encoder, ignored)

    def both(name: str, tensor: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for part, converted in convert(name, tensor).items():
            found |= spell(part, converted)
        return found

    return both
