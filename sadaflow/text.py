"""Prompt encoding through `transformers` (an extra, imported where it is used)."""

import reprlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Self

import torch
from torch import Tensor, nn

from .checkpoint import Checkpoint
from .jsonfile import read_object
from .picklable import without_captures
from .quiet import quiet
from .safetensor_file import Stored, read_headers
from .stored_weights import StoredWeights
from .weights import build_empty, check_names, find_weights, is_finite, refuse_oversized

# Buffers that older writers stored although they follow from the config.
_DERIVED = ("position_ids",)
_LEFT = ("CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel")


def transformers_module() -> Any:
    """The `transformers` package, or an ImportError that names the extra."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError("text encoders need the extra: pip install 'sadaflow[text]'") from error
    return transformers


@contextmanager
def reading(place: Path | str) -> Iterator[Any]:
    """The `transformers` package without its chatter; whatever it raises becomes a ValueError that names `place`."""
    transformers = transformers_module()
    try:
        with quiet(transformers.logging):
            yield transformers
    except (MemoryError, ImportError):
        raise
    except Exception as error:
        raise ValueError(
            f"{place}: transformers cannot read it: {type(error).__name__}: {str(error)[:500]}"
        ) from error


def load_tokenizer(checkpoint: Checkpoint, component: str, kind: str) -> Any:
    """The tokenizer in the folder `component`, of the `transformers` class `kind`; ValueError for what is none."""
    folder = checkpoint.root / component
    settings = folder / "tokenizer_config.json"
    for name, value in (read_object(settings) if settings.is_file() else {}).items():
        if name.endswith("_file") and value is not None and value != Path(str(value)).name:
            raise ValueError(f"{settings}: {name}={str(value)[:80]!r} leads out of the folder")
    with reading(folder) as transformers:
        tokenizer = getattr(transformers, kind).from_pretrained(folder, local_files_only=True)
    longest = tokenizer.model_max_length
    if type(longest) not in (int, float) or not longest >= 1:
        raise ValueError(f"{settings}: model_max_length={reprlib.repr(longest)} is no number of tokens")
    return tokenizer


def load_encoder(checkpoint: Checkpoint, component: str, kind: str) -> Any:
    """The encoder in the folder `component`, of the `transformers` class `kind`, strictly filled.

    Raises ValueError naming the missing, unexpected or misshaped tensors, those that hold no floats or NaN, and for
    a config that asks for much more than the files hold, before memory is taken.
    """
    folder, variant = checkpoint.root / component, checkpoint.variant
    files = find_weights(folder, "model", variant)
    checkpoint.json(component, "config.json")
    if (adapter := folder / "adapter_config.json").exists():
        raise ValueError(f"{adapter}: adapters in the place of an encoder are not read")
    with reading(folder) as transformers:
        cls = getattr(transformers, kind)
        config = cls.config_class.from_pretrained(folder, local_files_only=True)
    with reading(folder):
        stored = list(read_headers(files))
        empty = build_empty(lambda: cls(config), stored, str(folder))
    for one in stored:
        if not one.is_float and one.name.endswith((".weight", ".bias")):
            raise ValueError(f"{one.path}: {one.name} holds {one.kind}, expected floats")
    refuse_oversized(empty, stored, str(folder))
    if checkpoint.keeper is not None and kind in _LEFT:
        _leave(empty, stored, checkpoint, str(folder))
        return empty
    with reading(folder):
        encoder, report = cls.from_pretrained(
            folder,
            variant=variant if variant and f".{variant}" in files[0].name else None,
            dtype=checkpoint.dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    unexpected = {name for name in report["unexpected_keys"] if not name.endswith(_DERIVED)}
    check_names(str(folder), set(report["missing_keys"]), unexpected)
    if report["mismatched_keys"]:
        name, found, expected = next(iter(report["mismatched_keys"]))
        raise ValueError(f"{folder}: misshaped: {name} is {tuple(found)}, expected {tuple(expected)}")
    encoder = encoder.to(checkpoint.device).requires_grad_(False).eval()
    for name, parameter in encoder.named_parameters():
        if not is_finite(parameter):
            raise ValueError(f"{folder}: {name} holds NaN or infinity in {checkpoint.dtype}")
    return encoder


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

    @classmethod
    def load(cls, checkpoint: Checkpoint, suffix: str = "", kind: str = "CLIPTextModel") -> Self:
        """Read `tokenizer/` and `text_encoder/` of a checkpoint, or those with a `suffix` ("_2"), as a class `kind`.

        Raises ValueError for tensors that do not fit the config.
        """
        tokenizer = load_tokenizer(checkpoint, f"tokenizer{suffix}", "CLIPTokenizer")
        return cls(tokenizer, load_encoder(checkpoint, f"text_encoder{suffix}", kind))

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

    @classmethod
    def load(cls, checkpoint: Checkpoint) -> Self:
        """Read `tokenizer_2/` and `text_encoder_2/`; ValueError for tensors that do not fit the config."""
        tokenizer = load_tokenizer(checkpoint, "tokenizer_2", "T5TokenizerFast")
        return cls(tokenizer, load_encoder(checkpoint, "text_encoder_2", "T5EncoderModel"))

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
