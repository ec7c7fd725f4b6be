"""Text encoders of single files: CLIP under the Hub's names, OpenCLIP under its own, T5 under the Hub's."""

import re
from typing import Any

from torch import Tensor, nn

from ..strict import Convert, Loader, UnknownTensor
from ..text_encoder import add_encoder, empty_encoder, hub_names
from ..transformers_package import transformers_module
from .layout import Section, split_fused

_HEAD_DIM = 64  # of every published CLIP and OpenCLIP text encoder
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
    """OpenCLIP's fused projection of query, key and value, a weight (3 width, width) or bias (3 width,), as three."""
    parts = zip(("q_proj", "k_proj", "v_proj"), split_fused(fused, (1, 1, 1)), strict=True)
    return {f"{layer}.self_attn.{name}.{leaf}": part for name, part in parts}


def from_open_clip(layers: int, *, projection: bool) -> Convert:
    """The conversion of an OpenCLIP text encoder of which the first `layers` are used, and the `projection` or not."""

    def convert(name: str, tensor: Tensor) -> dict[str, Tensor]:
        if name in _OPEN_TOP:
            return {_OPEN_TOP[name]: tensor}
        if name == "text_projection":  # the Hub has the transpose
            return {"text_projection.weight": tensor.T.contiguous()} if projection else {}
        if name in ("logit_scale", "attn_mask"):
            return {}
        match = _OPEN_NAME.fullmatch(name)
        if match is None or match[2] not in (*_OPEN_LAYER, "attn.in_proj"):
            raise UnknownTensor(f"tensor {name!r} is none of an OpenCLIP text encoder")
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
    """The Hub's own names. Position ids follow from the config; the projection and its scale are not used."""
    aside = name.endswith("position_ids") or name in ("text_projection.weight", "logit_scale")
    return {} if aside else {name: tensor}


def load_clip(section: Section, loader: Loader) -> Any:
    """The CLIP text encoder in `section`, a `transformers` CLIPTextModel."""
    token = section.shape("text_model.embeddings.token_embedding.weight", "CLIP text encoder", 2)
    position = section.shape("text_model.embeddings.position_embedding.weight", "CLIP text encoder", 2)
    inner = section.shape("text_model.encoder.layers.0.mlp.fc1.weight", "CLIP text encoder", 2)[0]
    layers = section.count("text_model.encoder.layers")
    config = _clip_config(token, position[0], inner, layers, hidden_act="quick_gelu")
    return _placed("CLIPTextModel", config, section, from_clip, loader)


def load_open_clip(section: Section, loader: Loader, *, projection: bool) -> Any:
    """The OpenCLIP text encoder in `section`: with `projection` whole, a CLIPTextModelWithProjection (XL); else a
    CLIPTextModel without the last layer, whose input is what SD 2.x reads.
    """
    what = "OpenCLIP text encoder"
    token, position = section.shape("token_embedding.weight", what, 2), section.shape("positional_embedding", what, 2)
    inner = section.shape("transformer.resblocks.0.mlp.c_fc.weight", what, 2)[0]
    layers = section.count("transformer.resblocks") - (not projection)
    settings: dict[str, Any] = {"hidden_act": "gelu"}
    if projection:
        settings["projection_dim"] = section.shape("text_projection", what, 2)[1]
    config = _clip_config(token, position[0], inner, layers, **settings)
    kind = "CLIPTextModelWithProjection" if projection else "CLIPTextModel"
    return _placed(kind, config, section, from_open_clip(layers, projection=projection), loader)


def _clip_config(token: tuple[int, ...], length: int, inner: int, layers: int, **settings: Any) -> Any:
    return transformers_module().CLIPTextConfig(
        vocab_size=token[0],
        hidden_size=token[1],
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=max(token[1] // _HEAD_DIM, 1),
        max_position_embeddings=length,
        bos_token_id=0,
        eos_token_id=2,  # the published configs' legacy mark for "the highest id is the end token"
        pad_token_id=1,
        **settings,
    )


def load_t5(section: Section, loader: Loader) -> Any:
    """The T5 v1.1 encoder in `section`, a `transformers` T5EncoderModel."""
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

    return _placed("T5EncoderModel", config, section, convert, loader)


def _placed(kind: str, config: Any, section: Section, convert: Convert, loader: Loader) -> Any:
    """An encoder of the `transformers` class `kind`; the loader reads its weights later."""
    encoder = empty_encoder(getattr(transformers_module(), kind), config, section.stored, section.place)
    return add_encoder(encoder, section.stored, _spelt(section.full(convert), encoder), section.place, loader)


def _spelt(convert: Convert, encoder: nn.Module) -> Convert:
    """`convert`, followed by the spelling of the Hub's names that the installed `transformers` has."""
    spell = hub_names(encoder)

    def both(name: str, tensor: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for part, converted in convert(name, tensor).items():
            found |= spell(part, converted)
        return found

    return both
