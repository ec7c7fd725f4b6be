"""config.json of published text encoders, and the files beside their tokenizers."""

from typing import Any

Json = dict[str, Any]

END, _START = "<|endoftext|>", "<|startoftext|>"
PLAIN = {"lstrip": False, "rstrip": False, "single_word": False}


def token(content: str, normalized: bool = True) -> Json:
    return {"content": content, "normalized": normalized, **PLAIN}


def added(content: str, normalized: bool, special: bool) -> Json:
    return {**token(content, normalized), "special": special}


CLIP_L: Json = {
    "_name_or_path": "openai/clip-vit-large-patch14",
    "architectures": ["CLIPTextModel"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "dropout": 0.0,
    "eos_token_id": 2,
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "torch_dtype": "float32",
    "transformers_version": "4.21.0.dev0",
    "vocab_size": 49408,
}
CLIP_L_NEW: Json = {**CLIP_L, "projection_dim": 768, "transformers_version": "4.32.0.dev0", "torch_dtype": "float16"}
CLIP_H: Json = {
    **CLIP_L,
    "_name_or_path": "hf-models/stable-diffusion-v2-768x768/text_encoder",
    "hidden_act": "gelu",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 23,
    "projection_dim": 512,
    "transformers_version": "4.25.0.dev0",
}
CLIP_G: Json = {
    **CLIP_L_NEW,
    "architectures": ["CLIPTextModelWithProjection"],
    "hidden_act": "gelu",
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_attention_heads": 20,
    "num_hidden_layers": 32,
    "projection_dim": 1280,
}
TOKENIZER: Json = {
    "add_prefix_space": False,
    "bos_token": {"__type": "AddedToken", **token(_START)},
    "do_lower_case": True,
    "eos_token": {"__type": "AddedToken", **token(END)},
    "errors": "replace",
    "model_max_length": 77,
    "name_or_path": "openai/clip-vit-large-patch14",
    "pad_token": END,
    "special_tokens_map_file": "./special_tokens_map.json",
    "tokenizer_class": "CLIPTokenizer",
    "unk_token": {"__type": "AddedToken", **token(END)},
}
TOKENIZER_NEW: Json = {
    "add_prefix_space": False,
    "added_tokens_decoder": {"49406": added(_START, True, True), "49407": added(END, False, True)},
    "bos_token": _START,
    "clean_up_tokenization_spaces": True,
    "do_lower_case": True,
    "eos_token": END,
    "errors": "replace",
    "model_max_length": 77,
    "pad_token": END,
    "tokenizer_class": "CLIPTokenizer",
    "unk_token": END,
}
BANG = {"0": added("!", False, True)}
HOME = "/home/user/.cache/huggingface/hub/models--openai--clip-vit-large-patch14/snapshots/32bd6428/tokenizer.json"
SPECIAL: Json = {
    "bos_token": token(_START),
    "eos_token": token(END),
    "pad_token": END,
    "unk_token": token(END),
}


def clip(encoder: Json, tokenizer: Json, special: Json, suffix: str = "") -> dict[str, Json]:
    return {
        f"text_encoder{suffix}/config.json": encoder,
        f"tokenizer{suffix}/tokenizer_config.json": tokenizer,
        f"tokenizer{suffix}/special_tokens_map.json": special,
    }


XL_TOKENIZER: Json = {
    key: value
    for key, value in {**TOKENIZER, "clean_up_tokenization_spaces": True}.items()
    if key not in ("name_or_path", "special_tokens_map_file")
}
SD_2_TEXT = {
    "encoder": CLIP_H,
    "tokenizer": {**TOKENIZER, "name_or_path": "hf-models/stable-diffusion-v2-768x768/tokenizer"},
    "special": {**SPECIAL, "pad_token": "!"},
}
SD_2_TEXT = {
    "encoder": CLIP_H,
    "tokenizer": {**TOKENIZER, "name_or_path": "hf-models/stable-diffusion-v2-768x768/tokenizer"},
    "special": {**SPECIAL, "pad_token": "!"},
}
EXTRA_TOKENS = [f"<extra_id_{number}>" for number in range(100)]
T5_TOKENIZER: Json = {
    "added_tokens_decoder": {
        **{str(place): added(word, False, True) for place, word in enumerate(("<pad>", "</s>", "<unk>"))},
        **{str(32099 - number): added(word, False, True) for number, word in enumerate(EXTRA_TOKENS)},
    },
    "additional_special_tokens": EXTRA_TOKENS,
    "clean_up_tokenization_spaces": True,
    "eos_token": "</s>",
    "extra_ids": 100,
    "legacy": False,
    "model_max_length": 512,
    "pad_token": "<pad>",
    "sp_model_kwargs": {},
    "tokenizer_class": "T5Tokenizer",
    "unk_token": "<unk>",
}
T5: Json = {
    "d_ff": 10240,
    "d_kv": 64,
    "d_model": 4096,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "dense_act_fn": "gelu_pytorch_tanh",
    "initializer_factor": 1.0,
    "is_encoder_decoder": True,
    "is_gated_act": True,
    "layer_norm_epsilon": 1e-06,
    "model_type": "t5",
    "num_decoder_layers": 24,
    "num_heads": 64,
    "num_layers": 24,
    "output_past": True,
    "pad_token_id": 0,
    "relative_attention_num_buckets": 32,
    "tie_word_embeddings": False,
    "vocab_size": 32128,
}
T5_KREA: Json = {
    **T5,
    "_name_or_path": "google/t5-v1_1-xxl",
    "architectures": ["T5EncoderModel"],
    "classifier_dropout": 0.0,
    "dense_act_fn": "gelu_new",
    "feed_forward_proj": "gated-gelu",
    "relative_attention_max_distance": 128,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.43.3",
    "use_cache": True,
}
T5_SPECIAL: Json = {
    "additional_special_tokens": EXTRA_TOKENS,
    "eos_token": token("</s>", False),
    "pad_token": token("<pad>", False),
    "unk_token": token("<unk>", False),
}

# transformers 4 wrote its settings of generation and of classifiers into the nested configs of CLIP.
FULL_DUMP: Json = {
    "_name_or_path": "",
    "add_cross_attention": False,
    "bad_words_ids": None,
    "chunk_size_feed_forward": 0,
    "cross_attention_hidden_size": None,
    "decoder_start_token_id": None,
    "diversity_penalty": 0.0,
    "do_sample": False,
    "dropout": 0.0,
    "early_stopping": False,
    "finetuning_task": None,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "is_decoder": False,
    "is_encoder_decoder": False,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "length_penalty": 1.0,
    "max_length": 20,
    "num_beams": 1,
    "output_attentions": False,
    "output_hidden_states": False,
    "prefix": None,
    "problem_type": None,
    "pruned_heads": {},
    "return_dict": True,
    "sep_token_id": None,
    "task_specific_params": None,
    "temperature": 1.0,
    "tie_encoder_decoder": False,
    "tie_word_embeddings": True,
    "tokenizer_class": None,
    "top_k": 50,
    "top_p": 1.0,
    "torch_dtype": "float16",
    "torchscript": False,
    "transformers_version": "4.21.0.dev0",
    "typical_p": 1.0,
    "use_bfloat16": False,
}

# The fields of Stable Diffusion 1.4's tokenizer_config.json, with a shorter maximum length.
SD14: Json = {
    "add_prefix_space": False,
    "bos_token": {"__type": "AddedToken", **token(_START)},
    "do_lower_case": True,
    "eos_token": {"__type": "AddedToken", **token(END)},
    "errors": "replace",
    "model_max_length": 24,
    "name_or_path": "openai/clip-vit-large-patch14",
    "pad_token": END,
    "special_tokens_map_file": "./special_tokens_map.json",
    "tokenizer_class": "CLIPTokenizer",
    "unk_token": {"__type": "AddedToken", **token(END)},
}
