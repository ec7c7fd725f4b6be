"""Prompt encoding through `transformers` (an extra, imported where it is used)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from .checkpoint import Checkpoint
from .jsonfile import naming
from .safetensor_file import Stored, read_headers
from .stored_weights import StoredWeights
from .text_config import encoder_fields, is_whole_clip
from .tokenizer_files import check_ids, load_tokenizer
from .transformers_package import reading, transformers_module
from .weights import build_empty, check_names, find_weights, is_finite, refuse_oversized

__all__ = [
    "ClipText",
    "Encoder",
    "T5Text",
    "load_encoder",
    "load_tokenizer",
    "prepare_encoder",
    "reading",
    "tokenize",
    "transformers_module",
    "where",
]

# Buffers that older writers stored although they follow from the config.
_DERIVED = ("position_ids",)
# What a file of CLIP with both halves holds beside the text encoder.
_OTHER_HALF = ("vision_model.", "visual_projection.", "logit_scale")
_PROJECTION = "text_projection."
_LEFT = ("CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel")


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

    def load(self) -> Any:
        """Builds the encoder and fills it strictly; raises as `load_encoder`."""
        return _load(self)


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


def load_encoder(checkpoint: Checkpoint, component: str, kind: str) -> Any:
    """The encoder in the folder `component`, of the `transformers` class `kind`, strictly filled.

    Raises ValueError naming the missing, unexpected or misshaped tensors, those that hold no floats or NaN, and for
    a config that asks for much more than the files hold, before memory is taken.
    """
    return prepare_encoder(checkpoint, component, kind).load()


def _load(encoder: Encoder) -> Any:
    checkpoint, kind, config = encoder.checkpoint, encoder.kind, encoder.config
    folder, variant = checkpoint.root / encoder.component, checkpoint.variant
    files = find_weights(folder, "model", variant)
    with reading(folder) as transformers:
        cls = getattr(transformers, kind)
        stored = [one for one in read_headers(files) if not one.name.startswith(encoder.aside or ("\0",))]
        empty = build_empty(lambda: cls(config), stored, str(folder))
    for one in stored:
        if not one.is_float and one.name.endswith((".weight", ".bias")):
            raise ValueError(f"{one.path}: {one.name} holds {one.kind}, expected floats")
    refuse_oversized(empty, stored, str(folder))
    if checkpoint.keeper is not None and kind in _LEFT:
        _leave(empty, stored, checkpoint, str(folder))
        return empty
    with reading(folder):
        network, report = cls.from_pretrained(
            folder,
            config=config,
            variant=variant if variant and f".{variant}" in files[0].name else None,
            dtype=checkpoint.dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    unexpected = {
        name
        for name in report["unexpected_keys"]
        if not name.endswith(_DERIVED) and not name.startswith(encoder.aside or ("\0",))
    }
    check_names(str(folder), set(report["missing_keys"]), unexpected)
    if report["mismatched_keys"]:
        name, found, expected = next(iter(report["mismatched_keys"]))
        raise ValueError(f"{folder}: misshaped: {name} is {tuple(found)}, expected {tuple(expected)}")
    network = network.to(checkpoint.device).requires_grad_(False).eval()
    for name, parameter in network.named_parameters():
        if not is_finite(parameter):
            raise ValueError(f"{folder}: {name} holds NaN or infinity in {checkpoint.dtype}")
    return network


def _leave(encoder: Any, stored: Sequence[Stored], checkpoint: Checkpoint, place: str) -> None:
    """Leave the weights of an encoder without memory to the checkpoint's keeper; raises as `load_encoder`."""
    assert checkpoint.keeper is not None
    encoder.tie_weights()
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in encoder.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    tied = {name: same for same in names.values() for name in same}
    found: dict[str, Stored] = {}
    unexpected = set()
    for one in stored:
        if one.name.endswith(_DERIVED):
            continue
        # Whether the CLIP encoder's names begin so depends on the version of `transformers` that wrote them.
        spelt = (one.name, one.name.removeprefix("text_model."), f"text_model.{one.name}")
        name = next((name for name in spelt if name in tied), None)
        if name is None:
            unexpected.add(one.name)
            continue
        if one.shape != (expected := tuple(encoder.get_parameter(name).shape)):
            raise ValueError(f"{place}: misshaped: {one.name} is {one.shape}, expected {expected}")
        found |= dict.fromkeys(tied[name], one)
    check_names(place, set(tied), set(found) | unexpected)
    encoder.to(checkpoint.dtype).requires_grad_(False).eval()
    if checkpoint.dtype is torch.float16:
        for name, module in encoder.named_modules():
            if name.rpartition(".")[2] in (encoder._keep_in_fp32_modules or ()):
                module.float()
    for name, buffer in encoder.named_buffers():
        if not name.endswith(_DERIVED):
            raise ValueError(
                f"{place}: {type(encoder).__name__} has a buffer {name} that is not known here: load it without "
                "offload='stream' and quantize="
            )
        owner, _, leaf = name.rpartition(".")
        setattr(encoder.get_submodule(owner), leaf, torch.arange(buffer.shape[-1]).expand(buffer.shape))
    checkpoint.keeper.add(encoder, StoredWeights(encoder, found))


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
    def load(cls, checkpoint: Checkpoint, suffix: str = "", kind: str = "CLIPTextModel") -> Self:
        """Read `tokenizer/` and `text_encoder/` of a checkpoint, or those with a `suffix` ("_2"), as a class `kind`.

        Raises ValueError for tensors that do not fit the config.
        """
        return cls.of(cls.prepare(checkpoint, suffix, kind))

    @classmethod
    def of(cls, encoder: Encoder) -> Self:
        """Loads the weights of a prepared encoder; raises ValueError for tensors that do not fit the config."""
        return cls(encoder.tokenizer, encoder.load())

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
    def load(cls, checkpoint: Checkpoint) -> Self:
        """Read `tokenizer_2/` and `text_encoder_2/`; ValueError for tensors that do not fit the config."""
        return cls.of(cls.prepare(checkpoint))

    @classmethod
    def of(cls, encoder: Encoder) -> Self:
        """Loads the weights of a prepared encoder; raises ValueError for tensors that do not fit the config."""
        return cls(encoder.tokenizer, encoder.load())

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
    full = tokenizer(list(prompts))["input_ids"]
    for prompt, ids in zip(prompts, full, strict=True):
        if len(ids) > length:
            warnings.warn(f"prompt {prompt!r} has {len(ids)} tokens and is cut to {length}", stacklevel=4)
    return tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
