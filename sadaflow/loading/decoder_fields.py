"""The fields of the config.json of language models whose hidden states encode prompts, one table per class."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from sadaflow.models.config import COUNT, FLAG, NONE, POSITIVE, QUANTIZED, WIDTH, Kind, Table, list_of, one_of, whole

from .common_fields import COMMON

_ID = whole(0, 2**24)


def _is_rope(value: Any) -> bool:
    """Whether a value is rope_parameters without scaling."""
    if not isinstance(value, dict) or not value.keys() <= {"rope_theta", "rope_type"}:
        return False
    return value.get("rope_type", "default") == "default" and POSITIVE.holds(value.get("rope_theta"))


_ROPE = Kind("an object with rope_theta, and rope_type default", _is_rope)
_SLIDING = "attention to a window of tokens is not supported"
QWEN3: Final = Table(
    "Qwen3Model",
    kinds={
        "vocab_size": whole(1, 2**24),
        **dict.fromkeys(("hidden_size", "intermediate_size", "head_dim", "max_position_embeddings"), WIDTH),
        **dict.fromkeys(("num_attention_heads", "num_key_value_heads"), WIDTH),
        "num_hidden_layers": COUNT,
        "rms_norm_eps": POSITIVE,
        "rope_theta": POSITIVE,
        "rope_parameters": _ROPE,
        "attention_bias": FLAG,
        "hidden_act": one_of("silu", "gelu", "gelu_pytorch_tanh", "relu"),
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), _ID | NONE),
    },
    only={
        "model_type": ("qwen3",),
        "layer_types": ("full_attention", None),
        "rope_scaling": (None,),
        "use_sliding_window": (False, None),
    },
    ignored={
        **COMMON,
        "max_window_layers": "matters with use_sliding_window alone",
        "sliding_window": "matters with use_sliding_window alone",
        "tie_word_embeddings": "the encoder has no output embeddings",
    },
    needs={
        "quantization_config": QUANTIZED,
        "layer_types": _SLIDING,
        "use_sliding_window": _SLIDING,
        "rope_scaling": "scaled rotary positions are not supported",
    },
)
MISTRAL: Final = replace(
    QWEN3,
    owner="Mistral3ForConditionalGeneration text_config",
    kinds={name: kind for name, kind in QWEN3.kinds.items() if name != "attention_bias"},
    only={
        "model_type": ("mistral",),
        "layer_types": ("full_attention", None),
        "rope_scaling": (None,),
        "sliding_window": (None,),
    },
    ignored={**COMMON, "tie_word_embeddings": "the encoder has no output embeddings"},
    needs={**QWEN3.needs, "sliding_window": _SLIDING},
)
_MISTRAL3: Final = Table(
    "Mistral3ForConditionalGeneration",
    kinds={},
    only={"model_type": ("mistral3",)},
    ignored={
        **COMMON,
        "text_config": "read by itself",
        **dict.fromkeys(
            ("vision_config", "vision_feature_layer", "multimodal_projector_bias", "projector_hidden_act"),
            "the half that reads pictures is not built",
        ),
        **dict.fromkeys(("image_token_index", "image_token_id", "spatial_merge_size"), "no pictures are read"),
        "tie_word_embeddings": "the encoder has no output embeddings",
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), "the tokenizer has them"),
    },
    needs={"quantization_config": QUANTIZED},
)


def _is_sectioned_rope(value: Any) -> bool:
    """Whether a value is an unscaled rope of three axes (time, row, column)."""
    if not isinstance(value, dict) or not value.keys() <= {"mrope_section", "rope_theta", "rope_type", "type"}:
        return False
    types = {value.get("rope_type", "default"), value.get("type", "default")}
    theta = value.get("rope_theta")
    known = types <= {"default", "mrope"} and (theta is None or POSITIVE.holds(theta))
    return known and _SECTIONS.holds(value.get("mrope_section"))


_SECTIONS = list_of(WIDTH, "such numbers", 3)
_SECTIONED_ROPE = Kind("an object with mrope_section, and rope_type default", _is_sectioned_rope)
QWEN_VL: Final = replace(
    QWEN3,
    owner="Qwen2_5_VLForConditionalGeneration",
    kinds={
        **{name: kind for name, kind in QWEN3.kinds.items() if name not in ("attention_bias", "head_dim")},
        **dict.fromkeys(("rope_parameters", "rope_scaling"), _SECTIONED_ROPE),
    },
    only={
        "model_type": ("qwen2_5_vl", "qwen2_5_vl_text"),
        "layer_types": ("full_attention", None),
        "use_sliding_window": (False, None),
    },
    ignored={
        **QWEN3.ignored,
        **dict.fromkeys(
            ("image_token_id", "video_token_id", "vision_token_id", "vision_start_token_id", "vision_end_token_id"),
            "the tokenizer has them",
        ),
        **dict.fromkeys(("text_config", "vision_config"), "read by itself"),
    },
    needs={"quantization_config": QUANTIZED, "layer_types": _SLIDING, "use_sliding_window": _SLIDING},
)
_VISION: Final = Table(
    "Qwen2_5_VLForConditionalGeneration vision_config",
    kinds={
        **dict.fromkeys(("hidden_size", "intermediate_size", "num_heads", "out_hidden_size", "window_size"), WIDTH),
        **dict.fromkeys(("patch_size", "spatial_merge_size", "temporal_patch_size", "tokens_per_second"), WIDTH),
        "depth": COUNT,
        "in_channels": WIDTH,
        "fullatt_block_indexes": list_of(whole(0, 999), "such numbers"),
        "hidden_act": one_of("silu", "gelu", "gelu_pytorch_tanh", "relu"),
    },
    only={"model_type": ("qwen2_5_vl", "qwen2_5_vl_vision"), "in_chans": (3,)},
    ignored={
        **COMMON,
        "spatial_patch_size": "patch_size has its number",
        "rope_parameters": "this class has a single kind of positions",
    },
    needs={"quantization_config": QUANTIZED},
)
DECODERS: Final = ("Qwen3Model", "MistralModel", "Qwen2_5_VLTextModel", "Qwen2_5_VLModel")
"""Classes of language models that are built."""


def decoder_fields(raw: Mapping[str, Any], class_name: str) -> dict[str, Any]:
    """Read the config.json of a language model.

    Args:
        raw: The JSON object; for a MistralModel that of a Mistral3ForConditionalGeneration, for a Qwen2_5_VLTextModel
            and a Qwen2_5_VLModel that of a Qwen2_5_VLForConditionalGeneration.
        class_name: One of `DECODERS`.

    Raises:
        ValueError: If a field has a wrong value or is not supported.
    """
    if class_name == "Qwen3Model":
        return QWEN3.read(raw)
    if class_name.startswith("Qwen2_5_VL"):
        text = QWEN_VL.read(_half(raw, "text_config") if "text_config" in raw else raw)
        if class_name == "Qwen2_5_VLTextModel":
            return text
        token = {"image_token_id": raw["image_token_id"]} if "image_token_id" in raw else {}
        return {"text_config": text, "vision_config": _VISION.read(_half(raw, "vision_config")), **token}
    _MISTRAL3.read(raw)
    return MISTRAL.read(_half(raw, "text_config"))


def _half(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The config of one of a model's halves."""
    half = raw.get(name)
    if not isinstance(half, Mapping):
        raise ValueError(f"{name} holds a {type(half).__name__}, expected a JSON object")
    return half
