"""Reads the config.json of text encoders and of the vocoder: the fields that are passed to `transformers`."""

from collections.abc import Mapping
from typing import Any

from .decoder_fields import DECODERS, decoder_fields
from .text_fields import CLAP, CLAP_AUDIO, CLAP_TEXT, TABLES


def encoder_fields(raw: Mapping[str, Any], class_name: str) -> dict[str, Any]:
    """Read the config.json of a text encoder or vocoder.

    A config of CLIP with both halves is read as that of its text half.

    Args:
        raw: The JSON object.
        class_name: The `transformers` class that is built from it.

    Returns:
        The fields to build that class's config from.

    Raises:
        ValueError: If a field has a wrong value or is not supported.
    """
    if class_name == "ClapModel":
        return _clap_fields(raw)
    if class_name in DECODERS:
        return decoder_fields(raw, class_name)
    table = TABLES[class_name]
    values = table.read(_text_half(raw) if class_name.startswith("CLIP") else raw)
    if class_name.startswith("CLIP"):
        _check_heads(table.owner, values, 512, 8)
    return values


def is_whole_clip(raw: Mapping[str, Any]) -> bool:
    """Whether a config describes CLIP with both halves, text and picture."""
    return "hidden_size" not in raw and any(name in raw for name in ("text_config", "text_config_dict"))


def _text_half(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config of CLIP's text half. As in `transformers`, `text_config_dict` overrides `text_config`."""
    if not is_whole_clip(raw):
        return raw
    quantized = {name: raw[name] for name in ("quantization_config",) if name in raw}
    return {**_nested(raw, "text_config"), **_nested(raw, "text_config_dict"), **quantized}


def _clap_fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    text, sound = CLAP_TEXT.read(_nested(raw, "text_config")), _nested(raw, "audio_config")
    read = (*CLAP_AUDIO.kinds, *CLAP_AUDIO.needs)
    audio = CLAP_AUDIO.read({name: sound[name] for name in read if name in sound})
    _check_heads(CLAP_TEXT.owner, text, 768, 12)
    return {**CLAP.read(raw), "text_config": text, "audio_config": audio}


def _nested(raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = raw.get(name)
    if not isinstance(value, (dict, type(None))):
        raise ValueError(f"{name} holds a {type(value).__name__}, expected a JSON object")
    return value or {}


def _check_heads(owner: str, values: Mapping[str, Any], width: int, heads: int) -> None:
    width, heads = values.get("hidden_size", width), values.get("num_attention_heads", heads)
    if width % heads:
        raise ValueError(f"{owner} config: hidden_size={width} is not a multiple of num_attention_heads={heads}")
