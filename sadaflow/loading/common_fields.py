"""Fields that `transformers` writes into every config and that have no effect on an encoder's output."""

from collections.abc import Mapping

DROPOUT = "dropout is off outside training"
INITIAL = "initial values of weights; the stored ones replace them"
DECODER = "the decoder is not part of a text encoder"
_GENERATION = "settings of text generation"
_BOOKKEEPING = "notes of the program that wrote the file"
_LABELS = "labels of a classifier, which the encoder does not have"
_OUTPUT = "the caller asks for the outputs that it needs"
_DTYPE = "weights are converted to the dtype that the caller asks for"
_CODE = "code beside the checkpoint is never run"
_ATTENTION = "the attention kernel is chosen here, never by a checkpoint"
_TRAINING = "settings of training"

_GENERATION_FIELDS = (
    *("bad_words_ids", "begin_suppress_tokens", "diversity_penalty", "do_sample", "early_stopping"),
    *("encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id"),
    *("length_penalty", "max_length", "min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams"),
    *("num_return_sequences", "output_scores", "remove_invalid_values", "repetition_penalty"),
    *("return_dict_in_generate", "suppress_tokens", "temperature", "top_k", "top_p", "typical_p"),
    *("decoder_start_token_id", "output_past", "prefix", "task_specific_params", "use_cache"),
)
COMMON: Mapping[str, str] = {
    **dict.fromkeys(_GENERATION_FIELDS, _GENERATION),
    **dict.fromkeys(("architectures", "name_or_path", "transformers_version", "tokenizer_class"), _BOOKKEEPING),
    **dict.fromkeys(("finetuning_task", "id2label", "label2id", "num_labels", "problem_type"), _LABELS),
    **dict.fromkeys(("output_attentions", "output_hidden_states", "return_dict", "use_return_dict"), _OUTPUT),
    **dict.fromkeys(("dtype", "torch_dtype", "use_bfloat16"), _DTYPE),
    **dict.fromkeys(("auto_map", "custom_pipelines"), _CODE),
    **dict.fromkeys(("attn_implementation", "experts_implementation"), _ATTENTION),
    **dict.fromkeys(("gradient_checkpointing", "torchscript", "tf_legacy_loss"), _TRAINING),
    **dict.fromkeys(("tie_encoder_decoder", "cross_attention_hidden_size", "is_encoder_decoder"), DECODER),
    **dict.fromkeys(("attention_dropout", "dropout"), DROPOUT),
    "chunk_size_feed_forward": "computes the same in parts, to save memory",
    "initializer_factor": INITIAL,
    "initializer_range": INITIAL,
    "sep_token_id": "the tokenizer's own setting is used",
}
