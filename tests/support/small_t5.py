"""A small random T5 encoder with its tokenizer."""

from typing import Any

from transformers import T5Config, T5EncoderModel, T5TokenizerFast


def letters(*special: str) -> list[tuple[str, float]]:
    """A vocabulary of special tokens, in the order of their ids, and of single characters."""
    pieces = [*((token, 0.0) for token in special), ("▁", -2.0)]
    return pieces + [(chr(code), -3.0) for code in range(33, 127)]


def small_config(kind: type, vocabulary: list[tuple[str, float]], **fields: Any) -> Any:
    """A config of width 48 and two layers for a vocabulary."""
    return kind(vocab_size=len(vocabulary), d_model=48, d_kv=8, d_ff=48, num_layers=2, num_heads=4, **fields)


def small_t5() -> tuple[T5EncoderModel, T5TokenizerFast]:
    """An encoder of width 48, and a tokenizer of which each character is a token."""
    pieces = letters("<pad>", "</s>", "<unk>")
    fields = {"feed_forward_proj": "gated-gelu", "is_encoder_decoder": False, "use_cache": False}
    return T5EncoderModel(small_config(T5Config, pieces, **fields)), T5TokenizerFast(vocab=pieces, extra_ids=0)
