"""Published configs made small: every field stays, and sizes shrink together so that the parts still fit."""

from typing import Any

Json = dict[str, Any]

TEXT_WIDTH = {"text_encoder": 32, "text_encoder_2": 64}
PROJECTION = 48
_ID_SINUSOIDS = 8


def scaled(files: dict[str, Json], vocabulary: int, pieces: int) -> dict[str, Json]:
    """The JSON files of a checkpoint with networks of a few thousand weights.

    Args:
        files: JSON objects by path, at published sizes.
        vocabulary: Number of tokens of the CLIP tokenizers.
        pieces: Number of SentencePiece tokens of T5's tokenizer, without its 100 extra tokens.
    """
    width = sum(TEXT_WIDTH[name] for name in TEXT_WIDTH if f"{name}/config.json" in files)
    small = {}
    for path, content in files.items():
        if path in ("unet/config.json", "config.json"):
            small[path] = unet(content, width)
        elif path == "vae/config.json":
            small[path] = autoencoder(content)
        elif path == "transformer/config.json":
            small[path] = flux(content)
        elif path.startswith("text_encoder"):
            small[path] = text_encoder(content, TEXT_WIDTH[path.split("/")[0]], vocabulary, pieces + 100)
        elif path.endswith("tokenizer_config.json"):
            small[path] = tokenizer(content, vocabulary, pieces)
        else:
            small[path] = dict(content)
    return small


def unet(config: Json, context: int) -> Json:
    """A U-Net's or ControlNet's config with widths 32 and 64, for a context of that width."""
    levels = len(config["block_out_channels"])
    widths = [32, *[64] * (levels - 1)]
    heads = config["attention_head_dim"]
    changes: Json = {
        "block_out_channels": widths,
        "attention_head_dim": [width // 32 for width in widths] if isinstance(heads, list) else 4,
        "cross_attention_dim": context,
        "norm_num_groups": 8,  # groups of two numbers, at the deepest level, would amplify rounding errors
    }
    if "sample_size" in config:
        changes["sample_size"] = config["sample_size"] // 8
    if isinstance(config.get("transformer_layers_per_block"), list):
        changes["transformer_layers_per_block"] = [1, 1, 2][:levels]
    if config.get("addition_embed_type") == "text_time":
        ids = (config["projection_class_embeddings_input_dim"] - 1280) // config["addition_time_embed_dim"]
        changes["addition_time_embed_dim"] = _ID_SINUSOIDS
        changes["projection_class_embeddings_input_dim"] = PROJECTION + ids * _ID_SINUSOIDS
    return {**config, **changes}


def autoencoder(config: Json) -> Json:
    return {**config, "block_out_channels": [32, 32, 64, 64], "sample_size": config["sample_size"] // 8}


def flux(config: Json) -> Json:
    return {
        **config,
        "attention_head_dim": 16,
        "axes_dims_rope": [4, 6, 6],
        "joint_attention_dim": TEXT_WIDTH["text_encoder_2"],
        "num_attention_heads": 2,
        "num_layers": 1,
        "num_single_layers": 2,
        "pooled_projection_dim": TEXT_WIDTH["text_encoder"],
    }


def text_encoder(config: Json, width: int, vocabulary: int, t5_vocabulary: int) -> Json:
    if config["model_type"] == "t5":
        return {
            **config,
            "d_ff": 48,
            "d_kv": 8,
            "d_model": width,
            "num_decoder_layers": 2,
            "num_heads": 4,
            "num_layers": 2,
            "vocab_size": t5_vocabulary + 28,  # as published: more rows than the tokenizer has tokens
        }
    changes: Json = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "vocab_size": vocabulary,
    }
    if "projection_dim" in config:
        changes["projection_dim"] = PROJECTION
    return {**config, **changes}


def tokenizer(config: Json, vocabulary: int, pieces: int) -> Json:
    """The settings with the ids of added tokens moved to the end of the smaller vocabulary."""
    if "added_tokens_decoder" not in config:
        return dict(config)
    moved = {}
    for number, token in config["added_tokens_decoder"].items():
        number = int(number)
        if number >= 49406:
            number += vocabulary - 49408
        elif number >= 32000:
            number += pieces - 32000
        moved[str(number)] = token
    return {**config, "added_tokens_decoder": moved}
