"""Encodes prompts as chat messages with a language model, whose hidden states condition the backbone."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from ..loading.checkpoint import Checkpoint
from ..loading.picklable import without_captures
from ..loading.text_encoder import PreparedEncoder, prepare_encoder
from ..loading.tokenizer_files import load_tokenizer
from .prompt_encoder import input_device, tokenize

_MESSAGE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
_NO_THOUGHT = "<think>\n\n</think>\n\n"
_SYSTEM = (
    "You are an AI that reasons about image descriptions. You give structured responses focusing on object "
    "relationships, object\nattribution and actions without speculation."
)


def mistral_message(prompt: str) -> str:
    """The text that the chat template of Mistral Small makes of a prompt under the system message of FLUX.2."""
    return f"<s>[SYSTEM_PROMPT]{_SYSTEM}[/SYSTEM_PROMPT][INST]{prompt.replace('[IMG]', '')}[/INST]"


def chat_message(prompt: str, *, thinking: bool) -> str:
    """The text that Qwen3's chat template makes of a prompt: a user's message, and the start of the reply to it.

    Args:
        prompt: The prompt.
        thinking: Whether the reply may begin with thoughts; otherwise an empty block of them is appended.
    """
    return _MESSAGE.format(prompt) + ("" if thinking else _NO_THOUGHT)


class ChatText:
    """A language model with its tokenizer.

    Attributes:
        tokenizer: The `transformers` tokenizer.
        encoder: The `transformers` model, without output embeddings.
    """

    longest = 512
    """Largest number of tokens of a prompt in training."""

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        self.tokenizer = tokenizer
        self.encoder = encoder

    @staticmethod
    def prepare(
        checkpoint: Checkpoint, class_name: str, tokenizer_class: str, deepest: int = 0, **settings: Any
    ) -> PreparedEncoder:
        """Read and check the tokenizer and the config of the model, without the weights.

        Args:
            checkpoint: The checkpoint.
            class_name: `transformers` class of the model without output embeddings.
            tokenizer_class: `transformers` class of the tokenizer.
            deepest: The highest layer whose output is used.
            settings: Settings that replace those of the tokenizer's folder.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If a setting has a wrong value, if the two do not fit each other, or if layers are missing.
        """
        tokenizer = load_tokenizer(checkpoint, "tokenizer", tokenizer_class, **settings)
        encoder = prepare_encoder(checkpoint, "text_encoder", class_name, tokenizer)
        layers = getattr(encoder.config, "text_config", encoder.config).num_hidden_layers
        if layers <= deepest:
            raise ValueError(
                f"{checkpoint.path('text_encoder', 'config.json')}: num_hidden_layers={layers}; the prompt is encoded "
                f"by the output of layer {deepest}, which is not the last"
            )
        return encoder

    @classmethod
    def build(cls, encoder: PreparedEncoder) -> Self:
        """Build a prepared encoder; raises ValueError if the stored tensors do not fit the config."""
        return cls(encoder.tokenizer, encoder.build())

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "encoder": without_captures(self.encoder)}

    @torch.no_grad()
    def encode(
        self, texts: Sequence[str], length: int, layers: Sequence[int], *, fill: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Encode texts, padded and cut to `length` tokens.

        Args:
            texts: The texts, with their template.
            length: Number of tokens.
            layers: Indices of the hidden states; 0 is the embedding, k the output of layer k. -2 is the output of the
                last layer but one, -1 that of the last after the final norm.
            fill: Whether texts are padded to `length`; otherwise to the longest of them.

        Returns:
            The states of these layers side by side (B, length, len(layers) * width), and which tokens are not padding
            (B, length), bool on the CPU.
        """
        batch = tokenize(self.tokenizer, texts, length, special=False, fill=fill)
        device = input_device(self.encoder)
        output = self.encoder(
            input_ids=batch["input_ids"].to(device),
            attention_mask=batch["attention_mask"].to(device),
            output_hidden_states=True,
            use_cache=False,
        )
        states = [output.hidden_states[layer] for layer in layers]
        return torch.cat(states, dim=-1), batch["attention_mask"].bool()
