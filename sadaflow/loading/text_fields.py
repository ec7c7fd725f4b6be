"""The fields of the config.json of text encoders and of the vocoder, one table per class.

`transformers` keeps every field of a config, acts on some (`_attn_implementation` names code to fetch and run), and
fails on others only when the network runs. Each field is therefore used, known to have no effect, or refused by name.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sadaflow.models.config import (
    COUNT,
    FLAG,
    NONE,
    NUMBER,
    POSITIVE,
    QUANTIZED,
    SWITCH,
    WIDTH,
    WIDTHS,
    Kind,
    Table,
    list_of,
    one_of,
    whole,
)

from .common_fields import COMMON, DECODER, DROPOUT, INITIAL

_VOCABULARY = whole(1, 2**24)
_ID = whole(0, 2**24)
_ACTIVATION = one_of("gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu", "swish")
_FRACTION = Kind("a number from 0 to 1", lambda value: NUMBER.holds(value) and 0 <= value <= 1, float)
_LAYERS = list_of(whole(1, 2**16), "whole numbers")

_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "add_cross_attention": (False, None),
    "is_decoder": (False, None),
    "pruned_heads": (None, {}),
}
_NEEDS = {
    "is_decoder": "a decoder masks later tokens; text encoders for pictures do not",
    "quantization_config": QUANTIZED,
}

CLIP_TEXT = Table(
    "CLIPTextModel",
    kinds={
        "vocab_size": _VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "projection_dim": WIDTH | NONE,
        "num_hidden_layers": COUNT,
        "num_attention_heads": WIDTH,
        "max_position_embeddings": WIDTH,
        "hidden_act": _ACTIVATION,
        "layer_norm_eps": POSITIVE,
        "eos_token_id": _ID,
        "bos_token_id": _ID | NONE,
        "pad_token_id": _ID | NONE,
        "use_attention_mask": SWITCH,
    },
    only={**_PLAIN, "model_type": ("clip_text_model", "clip")},
    ignored={
        **COMMON,
        "projection_hidden_act": "the projection is linear",
        "tie_word_embeddings": "the encoder has no output embeddings",
    },
    needs=_NEEDS,
)
CLIP_VISION = Table(
    "CLIPVisionModelWithProjection",
    kinds={
        **dict.fromkeys(("hidden_size", "intermediate_size", "num_attention_heads", "projection_dim"), WIDTH),
        **dict.fromkeys(("image_size", "patch_size", "num_channels"), WIDTH),
        "num_hidden_layers": COUNT,
        "hidden_act": _ACTIVATION,
        "layer_norm_eps": POSITIVE,
    },
    only={"model_type": ("clip_vision_model",)},
    ignored={**COMMON, "tie_word_embeddings": "the encoder has no embeddings of words"},
    needs={"quantization_config": QUANTIZED},
)
T5 = Table(
    "T5EncoderModel",
    kinds={
        "vocab_size": _VOCABULARY,
        "d_model": WIDTH,
        "d_kv": WIDTH,
        "d_ff": WIDTH,
        "num_layers": COUNT,
        "num_heads": WIDTH,
        "relative_attention_num_buckets": whole(2, 2**16),
        "relative_attention_max_distance": whole(2, 2**16),
        "layer_norm_epsilon": POSITIVE,
        "feed_forward_proj": one_of("relu", "gated-relu", "gated-gelu", "gated-silu"),
        "dense_act_fn": _ACTIVATION,
        "is_gated_act": FLAG,
        "eos_token_id": _ID | NONE,
        "pad_token_id": _ID | NONE,
    },
    only={**_PLAIN, "model_type": ("t5", "mt5")},
    ignored={
        **COMMON,
        "classifier_dropout": DROPOUT,
        "dropout_rate": DROPOUT,
        "num_decoder_layers": DECODER,
        "scale_decoder_outputs": DECODER,
        "tie_word_embeddings": DECODER,
        "n_positions": "the positions are relative: there is no longest prompt",
        "bos_token_id": "T5 has no token that begins a prompt",
    },
    needs=_NEEDS,
)
UMT5 = replace(
    T5,
    owner="UMT5EncoderModel",
    only={**_PLAIN, "model_type": ("umt5",), "scalable_attention": (True,)},
    ignored={**T5.ignored, "output_past": DECODER},
)
CLAP_TEXT = Table(
    "ClapModel text_config",
    kinds={
        "vocab_size": _VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": COUNT,
        "num_attention_heads": WIDTH,
        "hidden_act": _ACTIVATION,
        "max_position_embeddings": WIDTH,
        "type_vocab_size": WIDTH,
        "layer_norm_eps": POSITIVE,
        "pad_token_id": _ID,
        "bos_token_id": _ID | NONE,
        "eos_token_id": _ID | NONE,
    },
    only={**_PLAIN, "model_type": ("clap_text_model",), "position_embedding_type": ("absolute",)},
    ignored={
        **COMMON,
        **dict.fromkeys(("attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout"), DROPOUT),
        **dict.fromkeys(("projection_dim", "projection_hidden_act"), "the outer config's value is used"),
        **dict.fromkeys(("fusion_hidden_size", "fusion_num_hidden_layers"), "sizes of the audio half"),
        "tie_word_embeddings": "the encoder has no output embeddings",
    },
    needs=_NEEDS,
)
# The audio half is built because its weights are in the file, and never run: no other field of it has an effect.
CLAP_AUDIO = Table(
    "ClapModel audio_config",
    kinds={
        **dict.fromkeys(("window_size", "num_mel_bins", "spec_size", "num_classes", "hidden_size"), WIDTH),
        **dict.fromkeys(("patch_embed_input_channels", "patch_embeds_hidden_size", "aff_block_r"), WIDTH),
        **dict.fromkeys(("patch_size", "patch_stride"), WIDTH | WIDTHS),
        **dict.fromkeys(("enable_fusion", "flatten_patch_embeds", "enable_patch_layer_norm", "qkv_bias"), FLAG),
        "depths": list_of(COUNT, "whole numbers"),
        "num_attention_heads": WIDTHS,
        "num_hidden_layers": COUNT,
        "fusion_type": one_of("channel_map", "aff_2d", "daf_2d", "iaff_2d", "fixed") | NONE,
        "hidden_act": _ACTIVATION,
        "mlp_ratio": POSITIVE,
        "layer_norm_eps": POSITIVE,
        "drop_path_rate": _FRACTION,
    },
    needs={"quantization_config": QUANTIZED},
)
CLAP = Table(
    "ClapModel",
    kinds={"projection_dim": WIDTH, "projection_hidden_act": one_of("relu", "gelu")},
    only={"model_type": ("clap",)},
    ignored={
        **COMMON,
        **dict.fromkeys(("text_config", "audio_config"), "read by itself"),
        **dict.fromkeys(("text_config_dict", "audio_config_dict"), "an older copy of text_config and audio_config"),
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), "text_config has the token ids"),
        **dict.fromkeys(("hidden_size", "num_hidden_layers", "fusion_num_hidden_layers"), "sums over both halves"),
        "logit_scale_init_value": INITIAL,
        "tie_word_embeddings": "the encoder has no output embeddings",
    },
    needs=_NEEDS,
)
VOCODER = Table(
    "SpeechT5HifiGan",
    kinds={
        "model_in_dim": WIDTH,
        "sampling_rate": whole(1, 2**20),
        "upsample_initial_channel": WIDTH,
        "upsample_rates": _LAYERS,
        "upsample_kernel_sizes": _LAYERS,
        "resblock_kernel_sizes": _LAYERS,
        "resblock_dilation_sizes": list_of(_LAYERS, "lists of whole numbers"),
        "leaky_relu_slope": _FRACTION,
        "normalize_before": FLAG,
    },
    only={"model_type": ("hifigan", "speecht5_hifigan")},
    ignored={
        **COMMON,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), "a vocoder reads no tokens"),
        "tie_word_embeddings": "a vocoder has no embeddings",
    },
    needs=_NEEDS,
)
TABLES = {
    "CLIPTextModel": CLIP_TEXT,
    "CLIPTextModelWithProjection": replace(
        CLIP_TEXT,
        owner="CLIPTextModelWithProjection",
        kinds={**CLIP_TEXT.kinds, "projection_dim": WIDTH},
    ),
    "CLIPVisionModelWithProjection": CLIP_VISION,
    "T5EncoderModel": T5,
    "UMT5EncoderModel": UMT5,
    "SpeechT5HifiGan": VOCODER,
}
