"""Small tokenizers of Qwen's and Mistral's kinds, and the part of their chat templates that a prompt needs."""

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, Qwen2TokenizerFast

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)


def chat_tokenizer(further: tuple[str, ...] = ()) -> Qwen2TokenizerFast:
    """A tokenizer without merges: each byte is a token. Fields of its config are those of published files.

    Args:
        further: Special tokens beside those of every chat.
    """
    letters = sorted(ByteLevel.alphabet())
    vocabulary = {word: index for index, word in enumerate([*letters, *SPECIAL, *further])}
    return Qwen2TokenizerFast(
        vocab=vocabulary,
        merges=[],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>", *further],
        model_max_length=131072,
        errors="replace",
        split_special_tokens=False,
        add_prefix_space=False,
        chat_template=TEMPLATE,
    )


MISTRAL_SPECIAL = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<pad>", "[IMG]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")
MISTRAL_TEMPLATE = (
    "{{- bos_token }}{%- for message in messages %}{%- set text = message.content[0].text %}"
    "{%- if message.role == 'system' %}{{- '[SYSTEM_PROMPT]' + text + '[/SYSTEM_PROMPT]' }}"
    "{%- else %}{{- '[INST]' + text + '[/INST]' }}{%- endif %}{%- endfor %}"
)


def mistral_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer without merges, which pads on the left and begins a text with <s> if it is asked to."""
    letters = sorted(ByteLevel.alphabet())
    vocabulary = {word: index for index, word in enumerate([*MISTRAL_SPECIAL, *letters])}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=list(MISTRAL_SPECIAL[3:]),
        padding_side="left",
        chat_template=MISTRAL_TEMPLATE,
    )
