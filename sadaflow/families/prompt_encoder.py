"""Encodes prompts with `transformers` (an extra, imported where used)."""

import warnings
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..loading.checkpoint import Checkpoint
from ..loading.picklable import without_captures
from ..loading.text_encoder import PreparedEncoder, prepare_encoder
from ..loading.tokenizer_files import load_tokenizer
from ..loading.transformers_package import reading, transformers_module
from .added_tokens import AddedTokens

__all__ = [
    "PreparedEncoder",
    "load_tokenizer",
    "prepare_encoder",
    "reading",
    "transformers_module",
]


Batch = Mapping[str, Tensor]
"""Tokenized prompts: "input_ids" and "attention_mask", (B, length) each."""

_TOKENIZING = Lock()
"""Held while tokenizing: a tokenizer stores padding and truncation of the current call, so calls must not overlap."""


def input_device(encoder: nn.Module) -> torch.device:
    """The device for an encoder's inputs: that of its weights, or the CPU if they are streamed (on the meta device)."""
    return next((weight.device for weight in encoder.parameters() if weight.device.type != "meta"), torch.device("cpu"))


class ClipText:
    """A CLIP text encoder with its tokenizer."""

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        self.tokenizer = tokenizer
        self.encoder = encoder
        self.added = AddedTokens(tokenizer)
        self.length = int(min(tokenizer.model_max_length, encoder.config.max_position_embeddings))

    @staticmethod
    def prepare(
        checkpoint: Checkpoint, suffix: str = "", class_name: str = "CLIPTextModel", *, pooled: bool = False
    ) -> PreparedEncoder:
        """Read and check the tokenizer and the config of an encoder, without the weights.

        Args:
            checkpoint: The checkpoint.
            suffix: Ending of the folders `tokenizer` and `text_encoder` ("_2").
            class_name: `transformers` class of the encoder.
            pooled: Whether the state of the end token will be used.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If a setting has a wrong value, or if the two do not fit each other.
        """
        tokenizer = load_tokenizer(checkpoint, f"tokenizer{suffix}", "CLIPTokenizer")
        encoder = prepare_encoder(checkpoint, f"text_encoder{suffix}", class_name, tokenizer)
        # In published configs 2 stands for "the highest id is the end token".
        end = encoder.config.eos_token_id
        if pooled and end not in (2, tokenizer.eos_token_id):
            raise ValueError(
                f"{checkpoint.path(encoder.component, 'config.json')}: eos_token_id={end} is not the end token of "
                f"{tokenizer.name_or_path} (id {tokenizer.eos_token_id}), whose state is pooled"
            )
        return encoder

    @classmethod
    def build(cls, encoder: PreparedEncoder) -> Self:
        """Build a prepared encoder; raises ValueError if the stored tensors do not fit the config."""
        return cls(encoder.tokenizer, encoder.build())

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "encoder": without_captures(self.encoder)}

    def encode(self, prompts: Sequence[str] | Batch) -> Tensor:
        """Last hidden states (B, length, width); prompts are padded and cut to `length` tokens, unless tokenized."""
        return self._run(prompts)[0]

    def penultimate(self, prompts: Sequence[str] | Batch) -> tuple[Tensor, Tensor | None]:
        """Hidden states (B, length, width) before the last layer, and the projected state of the end token.

        The latter has shape (B, projection); it is None if the encoder has no projection.
        """
        output = self._run(prompts, output_hidden_states=True)
        return output.hidden_states[-2], getattr(output, "text_embeds", None)

    def encode_pooled(self, prompts: Sequence[str]) -> Tensor:
        """State (B, width) of the end token after the final norm, which Flux conditions on."""
        return self._run(prompts).pooler_output

    @torch.no_grad()
    def _run(self, prompts: Sequence[str] | Batch, **outputs: bool) -> Any:
        if isinstance(prompts, Mapping):
            batch: Batch = prompts
        else:
            batch = tokenize(self.tokenizer, prompts, self.length, self.added)
        device = input_device(self.encoder)
        masked = getattr(self.encoder.config, "use_attention_mask", False)
        mask = batch["attention_mask"].to(device) if masked else None
        ids = batch["input_ids"].to(device)
        if not self.added:
            return self.encoder(ids, attention_mask=mask, **outputs)
        with self.added.embedded(self.encoder, ids) as known:
            return self.encoder(known, attention_mask=mask, **outputs)


class T5Text:
    """A T5 or UMT5 encoder with its tokenizer."""

    longest = 512
    """Largest number of tokens of a prompt in training."""

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        self.tokenizer = tokenizer
        self.encoder = encoder
        self.added = AddedTokens(tokenizer)

    @staticmethod
    def prepare(checkpoint: Checkpoint, suffix: str = "_2", class_name: str = "T5EncoderModel") -> PreparedEncoder:
        """Read and check the tokenizer and the config of the encoder; see `ClipText.prepare`."""
        tokenizer = load_tokenizer(checkpoint, f"tokenizer{suffix}", "T5TokenizerFast")
        return prepare_encoder(checkpoint, f"text_encoder{suffix}", class_name, tokenizer)

    @classmethod
    def build(cls, encoder: PreparedEncoder) -> Self:
        """Build a prepared encoder; raises ValueError if the stored tensors do not fit the config."""
        return cls(encoder.tokenizer, encoder.build())

    def default_length(self, published: int | None = None) -> int:
        """Tokens of a prompt for which no number is asked: the tokenizer's `model_max_length`, if that is less.

        Args:
            published: Number of the published pipeline; None is `longest`.
        """
        return int(min(published or self.longest, self.tokenizer.model_max_length))

    def encode(self, prompts: Sequence[str], length: int) -> Tensor:
        """Hidden states (B, length, width) of prompts, padded and cut to `length` tokens.

        Padding is not masked: most checkpoints were trained so.
        """
        return self._run(prompts, length, masked=False)[0]

    def encode_masked(self, prompts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
        """Hidden states (B, length, width) of prompts whose padding is masked, and which tokens are not padding.

        The latter is (B, length), bool. Prompts are padded and cut as by `encode`.
        """
        states, mask = self._run(prompts, length, masked=True)
        return states, mask.bool()

    @torch.no_grad()
    def _run(self, prompts: Sequence[str], length: int, masked: bool) -> tuple[Tensor, Tensor]:
        batch = tokenize(self.tokenizer, prompts, length, self.added)
        device = input_device(self.encoder)
        ids, mask = batch["input_ids"].to(device), batch["attention_mask"].to(device)
        if not self.added:
            return self.encoder(ids, attention_mask=mask if masked else None)[0], mask
        with self.added.embedded(self.encoder, ids) as known:
            return self.encoder(known, attention_mask=mask if masked else None)[0], mask


def tokenize(
    tokenizer: Any,
    prompts: Sequence[str],
    length: int,
    added: AddedTokens | None = None,
    *,
    special: bool = True,
    fill: bool = True,
) -> Any:
    """Token ids and attention mask (B, length) of prompts, padded; a prompt that is cut gives a warning.

    Args:
        tokenizer: The `transformers` tokenizer.
        prompts: The prompts.
        length: Number of tokens.
        added: Words that the tokenizer lacks.
        special: Whether the tokenizer adds the tokens that begin and end a prompt.
        fill: Whether prompts are padded to `length`; otherwise to the longest of them. Matters without `added`.
    """
    full = token_ids(tokenizer, prompts, added, special=special)
    if added:
        batch: Any = padded(tokenizer, full, length)
    else:
        with _TOKENIZING:
            batch = tokenizer(
                list(prompts),
                padding="max_length" if fill else "longest",
                max_length=length,
                truncation=True,
                return_tensors="pt",
                add_special_tokens=special,
            )
    for prompt, ids in zip(prompts, full, strict=True):
        if len(ids) > length:
            warnings.warn(f"prompt {prompt!r} has {len(ids)} tokens and is cut to {length}", stacklevel=4)
    return batch


def token_ids(
    tokenizer: Any, prompts: Sequence[str], added: AddedTokens | None = None, *, special: bool = True
) -> list[list[int]]:
    """Token ids of prompts, neither padded nor cut; arguments as for `tokenize`."""
    with _TOKENIZING:
        if added:
            return added.ids(prompts, special=special)
        ids: list[list[int]] = tokenizer(list(prompts), add_special_tokens=special)["input_ids"]
        return ids


def padded(tokenizer: Any, full: Sequence[list[int]], length: int) -> dict[str, Tensor]:
    """Cut and pad token ids as the tokenizer does: the end token stays, and pads follow it."""
    rows = [ids if len(ids) <= length else [*ids[: length - 1], ids[-1]] for ids in full]
    ids = torch.full((len(rows), length), tokenizer.pad_token_id)
    mask = torch.zeros((len(rows), length), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}
