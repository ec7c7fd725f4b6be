"""Prompt encoding through `transformers` (an extra, imported where it is used)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Self

import torch
from torch import Tensor, nn

from .checkpoint import Checkpoint
from .jsonfile import naming
from .picklable import without_captures
from .safetensor_file import Stored
from .strict import Convert, Loader, UnknownTensor
from .text_config import encoder_fields, is_whole_clip
from .tokenizer_files import check_ids, load_tokenizer
from .transformers_package import reading, transformers_module
from .weights import build_empty, refuse_oversized

__all__ = [
    "ClipText",
    "Encoder",
    "T5Text",
    "load_tokenizer",
    "prepare_encoder",
    "reading",
    "tokenize",
    "transformers_module",
    "where",
]

# Buffers that older writers stored although they follow from the config.
_DERIVED = ("position_ids", "token_type_ids")
# What a file of CLIP with both halves holds beside the text encoder.
_OTHER_HALF = ("vision_model.", "visual_projection.", "logit_scale")
_PROJECTION = "text_projection."


@dataclass(frozen=True)
class Encoder:
    """A text encoder or vocoder of a checkpoint whose config is read and checked, and whose weights are not read.

    Args:
        checkpoint: where it is.
        component: its folder ("text_encoder").
        kind: its `transformers` class.
        config: its `transformers` config, of the fields that are known alone.
        aside: beginnings of the names of tensors that its files may hold for other networks.
        tokenizer: the tokenizer of its prompts, checked against it; None if it has none.
    """

    checkpoint: Checkpoint
    component: str
    kind: str
    config: Any
    aside: tuple[str, ...] = ()
    tokenizer: Any = None

    def build(self, keep: Sequence[str] = ()) -> Any:
        """Builds the encoder on the meta device; `checkpoint.fill` reads its weights, or of the children in `keep`.

        Raises:
            ValueError: tensors are missing, unexpected, misshaped or hold no floats, or the config asks for much more
                than the files hold.
        """
        place, checkpoint = str(self.checkpoint.root / self.component), self.checkpoint
        stored = checkpoint.headers(self.component, "model")
        encoder = empty_encoder(getattr(transformers_module(), self.kind), self.config, stored, place)
        return add_encoder(encoder, stored, hub_names(encoder, self.aside), place, checkpoint.loader, keep)


def prepare_encoder(checkpoint: Checkpoint, component: str, kind: str, tokenizer: Any = None) -> Encoder:
    """Reads the config of an encoder and checks it, without its weights.

    Args:
        checkpoint: where it is.
        component: its folder ("text_encoder").
        kind: its `transformers` class.
        tokenizer: the tokenizer of its prompts, if it has one.

    Raises:
        FileNotFoundError: config.json is missing.
        ValueError: a field has a wrong value or asks for what is not supported, or the tokenizer has tokens that the
            encoder cannot embed.
    """
    folder = checkpoint.root / component
    raw = checkpoint.json(component, "config.json")
    if (adapter := folder / "adapter_config.json").exists():
        raise ValueError(f"{adapter}: adapters in the place of an encoder are not read")
    with naming(folder / "config.json"):
        fields = encoder_fields(raw, kind)
    with reading(folder) as transformers:
        config = getattr(transformers, kind).config_class(**fields)
    aside: tuple[str, ...] = ()
    if kind.startswith("CLIP") and is_whole_clip(raw):
        aside = _OTHER_HALF if kind == "CLIPTextModelWithProjection" else (*_OTHER_HALF, _PROJECTION)
    if tokenizer is not None:
        vocabulary = getattr(config, "text_config", config).vocab_size
        check_ids(tokenizer, vocabulary, str(folder / "config.json"))
    return Encoder(checkpoint, component, kind, config, aside, tokenizer)


def empty_encoder(cls: Any, config: Any, stored: Sequence[Stored], place: str) -> Any:
    """An encoder of the `transformers` class `cls` on the meta device, for weights `stored` at `place`."""
    with reading(place):
        encoder = build_empty(lambda: cls(config), stored, place)
    refuse_oversized(encoder, stored, place)
    return encoder


def add_encoder(
    encoder: Any, stored: Sequence[Stored], convert: Convert, place: str, loader: Loader, keep: Sequence[str] = ()
) -> Any:
    """Match an encoder on the meta device with stored tensors; the loader reads them later (see `Loader.add`)."""
    encoder.tie_weights()
    loader.add(encoder, stored, convert, place, keep=keep)
    if loader.dtype is torch.float16:
        for name, module in encoder.named_modules():
            if name.rpartition(".")[2] in (encoder._keep_in_fp32_modules or ()):
                module.float()
    stored_names = encoder.state_dict().keys()
    for name, buffer in encoder.named_buffers():
        if name not in stored_names and (not keep or name.startswith(tuple(keep))):
            _derive(encoder, name, buffer, place)
    return encoder


def _derive(encoder: Any, name: str, buffer: Tensor, place: str) -> None:
    """Give an encoder a buffer that follows from its config."""
    owner, _, leaf = name.rpartition(".")
    if leaf == "position_ids":
        value = torch.arange(buffer.shape[-1]).expand(buffer.shape)
    elif leaf == "token_type_ids":
        value = torch.zeros(buffer.shape, dtype=torch.long)
    else:
        raise ValueError(f"{place}: {type(encoder).__name__} has a buffer {name} whose value is not known")
    encoder.get_submodule(owner).register_buffer(leaf, value, persistent=False)


def hub_names(encoder: nn.Module, aside: tuple[str, ...] = ()) -> Convert:
    """The conversion from the Hub's names of an encoder's tensors to its own, without those that begin with `aside`.

    Whether the names of CLIP's begin with "text_model." depends on the version of `transformers` that wrote them.
    """
    known = set(encoder.state_dict())

    def convert(name: str, tensor: Tensor) -> dict[str, Tensor]:
        spelt = (name, name.removeprefix("text_model."), f"text_model.{name}")
        found = next((name for name in spelt if name in known), None)
        if found is not None:
            return {found: tensor}
        if name.endswith(_DERIVED) or (aside and name.startswith(aside)):
            return {}
        raise UnknownTensor(f"tensor {name!r} is not part of the encoder")

    return convert


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
    ) -> Encoder:
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
                f"{checkpoint.root / encoder.component / 'config.json'}: eos_token_id={end} is not the end token of "
                f"{tokenizer.name_or_path} (id {tokenizer.eos_token_id}), whose state is pooled"
            )
        return encoder

    @classmethod
    def build(cls, encoder: Encoder) -> Self:
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
    def prepare(checkpoint: Checkpoint) -> Encoder:
        """Reads `tokenizer_2/` and the config in `text_encoder_2/`, and checks them; raises as `ClipText.prepare`."""
        tokenizer = load_tokenizer(checkpoint, "tokenizer_2", "T5TokenizerFast")
        return prepare_encoder(checkpoint, "text_encoder_2", "T5EncoderModel", tokenizer)

    @classmethod
    def build(cls, encoder: Encoder) -> Self:
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


_TOKENIZING = Lock()
"""A tokenizer of `transformers` holds the padding and the cut of its last call, so that calls must not overlap."""


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
