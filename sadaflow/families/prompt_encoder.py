"""Prompt encoding through `transformers` (an extra, imported where it is used)."""

import warnings
from collections.abc import Sequence
from threading import Lock
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..loading.checkpoint import Checkpoint
from ..loading.picklable import without_captures
from ..loading.text_encoder import PreparedEncoder, prepare_encoder
from ..loading.tokenizer_files import load_tokenizer
from ..loading.transformers_package import reading, transformers_module

__all__ = [
    "PreparedEncoder",
    "load_tokenizer",
    "prepare_encoder",
    "reading",
    "transformers_module",
]


_TOKENIZING = Lock()
"""A tokenizer of `transformers` holds the padding and the cut of its last call, so that calls must not overlap."""


def where(encoder: nn.Module) -> torch.device:
    """The device that an encoder takes its inputs on: that of a weight which is there."""
    return next((weight.device for weight in encoder.parameters() if weight.device.type != "meta"), torch.device("cpu"))


class ClipText:
    """A CLIP text encoder with its tokenizer: prompts to the last hidden states, or to their pooled form."""

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        self.tokenizer = tokenizer
        self.encoder = encoder
        self.length = int(min(tokenizer.model_max_length, encoder.config.max_position_embeddings))

    @staticmethod
    def prepare(
        checkpoint: Checkpoint, suffix: str = "", kind: str = "CLIPTextModel", *, pooled: bool = False
    ) -> PreparedEncoder:
        """Reads the tokenizer and the config of an encoder, and checks them, without the weights.

        Args:
            checkpoint: where they are.
            suffix: ending of their folders `tokenizer` and `text_encoder` ("_2").
            kind: `transformers` class of the encoder.
            pooled: whether the state of the end token will be asked for.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a setting has a wrong value, or the two do not fit each other.
        """
        tokenizer = load_tokenizer(checkpoint, f"tokenizer{suffix}", "CLIPTokenizer")
        encoder = prepare_encoder(checkpoint, f"text_encoder{suffix}", kind, tokenizer)
        # 2 is the published configs' legacy mark for "the highest id is the end token".
        end = encoder.config.eos_token_id
        if pooled and end not in (2, tokenizer.eos_token_id):
            raise ValueError(
                f"{checkpoint.path(encoder.component, 'config.json')}: eos_token_id={end} is not the end token of "
                f"{tokenizer.name_or_path} (id {tokenizer.eos_token_id}), whose state is pooled"
            )
        return encoder

    @classmethod
    def build(cls, encoder: PreparedEncoder) -> Self:
        """Builds a prepared encoder; raises ValueError for tensors that do not fit the config."""
        return cls(encoder.tokenizer, encoder.build())

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "encoder": without_captures(self.encoder)}

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Hidden states (B, length, width) of `prompts`, padded and cut to the encoder's length."""
        return self._run(prompts)[0]

    def penultimate(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """Hidden states (B, length, width) before the last layer, and the projected end-token state (B, projection)
        where the encoder has a projection."""
        output = self._run(prompts, output_hidden_states=True)
        return output.hidden_states[-2], getattr(output, "text_embeds", None)

    def encode_pooled(self, prompts: Sequence[str]) -> Tensor:
        """The end token's state (B, width) after the final norm, which Flux conditions on."""
        return self._run(prompts).pooler_output

    @torch.no_grad()
    def _run(self, prompts: Sequence[str], **wanted: bool) -> Any:
        batch = tokenize(self.tokenizer, prompts, self.length)
        device = where(self.encoder)
        masked = getattr(self.encoder.config, "use_attention_mask", False)
        mask = batch["attention_mask"].to(device) if masked else None
        return self.encoder(batch["input_ids"].to(device), attention_mask=mask, **wanted)


class T5Text:
    """A T5 encoder with its tokenizer: prompts to the hidden states that Flux conditions on."""

    longest = 512
    """Most tokens of a prompt that the checkpoints were trained with."""

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        self.tokenizer = tokenizer
        self.encoder = encoder

    @staticmethod
    def prepare(checkpoint: Checkpoint) -> PreparedEncoder:
        """Reads `tokenizer_2/` and the config in `text_encoder_2/`, and checks them; raises as `ClipText.prepare`."""
        tokenizer = load_tokenizer(checkpoint, "tokenizer_2", "T5TokenizerFast")
        return prepare_encoder(checkpoint, "text_encoder_2", "T5EncoderModel", tokenizer)

    @classmethod
    def build(cls, encoder: PreparedEncoder) -> Self:
        """Builds a prepared encoder; raises ValueError for tensors that do not fit the config."""
        return cls(encoder.tokenizer, encoder.build())

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], length: int) -> Tensor:
        """Hidden states (B, length, width) of `prompts`, padded and cut to `length` tokens, or to as many as the
        tokenizer names as the checkpoint's most.

        The pads are not masked: the checkpoints read them.
        """
        batch = tokenize(self.tokenizer, prompts, min(length, self.tokenizer.model_max_length))
        return self.encoder(batch["input_ids"].to(where(self.encoder)))[0]


def tokenize(tokenizer: Any, prompts: Sequence[str], length: int) -> Any:
    """Ids and mask (B, length) of `prompts`, padded; warns where one is cut."""
    with _TOKENIZING:
        full = tokenizer(list(prompts))["input_ids"]
        batch = tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )  # fmt: skip
    for prompt, ids in zip(prompts, full, strict=True):
        if len(ids) > length:
            warnings.warn(f"prompt {prompt!r} has {len(ids)} tokens and is cut to {length}", stacklevel=4)
    return batch
