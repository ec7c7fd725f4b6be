"""Prompt encoding through `transformers` (an extra, imported where it is used)."""

import warnings
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from .checkpoint import Checkpoint
from .weights import check_names, find_weights, open_safetensors

# Buffers that older writers stored although they follow from the config.
_DERIVED = ("position_ids",)


def transformers_module() -> Any:
    """The `transformers` package, or an ImportError that names the extra."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError("text encoders need the extra: pip install 'sadaflow[text]'") from error
    return transformers


def load_tokenizer(checkpoint: Checkpoint, component: str, kind: str) -> Any:
    """The tokenizer in the folder `component`, of the `transformers` class `kind`."""
    return getattr(transformers_module(), kind).from_pretrained(checkpoint.root / component, local_files_only=True)


def load_encoder(checkpoint: Checkpoint, component: str, kind: str) -> Any:
    """The encoder in the folder `component`, of the `transformers` class `kind`, strictly filled.

    Raises ValueError naming the missing, unexpected or misshaped tensors.
    """
    transformers = transformers_module()
    folder, variant = checkpoint.root / component, checkpoint.variant
    files = find_weights(folder, "model", variant)
    for path in files:
        with open_safetensors(path):
            pass
    mark = variant if variant and f".{variant}" in files[0].name else None
    previous = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        encoder, report = getattr(transformers, kind).from_pretrained(
            folder,
            variant=mark,
            dtype=checkpoint.dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    finally:
        transformers.logging.set_verbosity(previous)
    unexpected = {name for name in report["unexpected_keys"] if not name.endswith(_DERIVED)}
    check_names(str(folder), set(report["missing_keys"]), unexpected)
    if report["mismatched_keys"]:
        name, found, expected = next(iter(report["mismatched_keys"]))
        raise ValueError(f"{folder}: misshaped: {name} is {tuple(found)}, expected {tuple(expected)}")
    return encoder.to(checkpoint.device).requires_grad_(False).eval()


class ClipText:
    """A CLIP text encoder with its tokenizer: prompts to the last hidden states, or to their pooled form."""

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        self.tokenizer = tokenizer
        self.encoder = encoder
        self.length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)

    @classmethod
    def load(cls, checkpoint: Checkpoint, suffix: str = "", kind: str = "CLIPTextModel") -> Self:
        """Read `tokenizer/` and `text_encoder/` of a checkpoint, or those with a `suffix` ("_2"), as a class `kind`.

        Raises ValueError for tensors that do not fit the config.
        """
        tokenizer = load_tokenizer(checkpoint, f"tokenizer{suffix}", "CLIPTokenizer")
        return cls(tokenizer, load_encoder(checkpoint, f"text_encoder{suffix}", kind))

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
        device = self.encoder.device
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

    @classmethod
    def load(cls, checkpoint: Checkpoint) -> Self:
        """Read `tokenizer_2/` and `text_encoder_2/`; ValueError for tensors that do not fit the config."""
        tokenizer = load_tokenizer(checkpoint, "tokenizer_2", "T5TokenizerFast")
        return cls(tokenizer, load_encoder(checkpoint, "text_encoder_2", "T5EncoderModel"))

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], length: int) -> Tensor:
        """Hidden states (B, length, width) of `prompts`, padded and cut to `length` tokens.

        The pads are not masked: the checkpoints read them.
        """
        batch = tokenize(self.tokenizer, prompts, length)
        return self.encoder(batch["input_ids"].to(self.encoder.device))[0]


def tokenize(tokenizer: Any, prompts: Sequence[str], length: int) -> Any:
    """Ids and mask (B, length) of `prompts`, padded; warns where one is cut."""
    full = tokenizer(list(prompts))["input_ids"]
    for prompt, ids in zip(prompts, full, strict=True):
        if len(ids) > length:
            warnings.warn(f"prompt {prompt!r} has {len(ids)} tokens and is cut to {length}", stacklevel=4)
    return tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
