"""A small random T5 encoder with its tokenizer."""

from transformers import T5Config, T5EncoderModel, T5TokenizerFast


def small_t5() -> tuple[T5EncoderModel, T5TokenizerFast]:
    """An encoder of width 48, and a tokenizer of which each character is a token."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(chr(code), -3.0) for code in range(33, 127)]
    config = T5Config(
        vocab_size=len(pieces),
        d_model=48,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
    )
    return T5EncoderModel(config), T5TokenizerFast(vocab=pieces, extra_ids=0)
