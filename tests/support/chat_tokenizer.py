"""A small tokenizer of Qwen's kind, and the part of its chat template that one message needs."""

from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2TokenizerFast

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)


def chat_tokenizer() -> Qwen2TokenizerFast:
    """A tokenizer without merges: each byte is a token. Fields of its config are those of published files."""
    letters = sorted(ByteLevel.alphabet())
    vocabulary = {word: index for index, word in enumerate([*letters, *SPECIAL])}
    return Qwen2TokenizerFast(
        vocab=vocabulary,
        merges=[],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        model_max_length=131072,
        errors="replace",
        split_special_tokens=False,
        add_prefix_space=False,
        chat_template=TEMPLATE,
    )


def save_chat_tokenizer(folder: Path) -> Path:
    """Writes the tokenizer's files."""
    chat_tokenizer().save_pretrained(folder)
    return folder
