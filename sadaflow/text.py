"""Prompt encoding through `transformers` (an extra, imported where it is used)."""

import reprlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from .checkpoint import Checkpoint
from .jsonfile import read_object
from .safetensor_file import Stored
from .strict import Convert, Loader, UnknownTensor
from .weights import build_empty, refuse_oversized

# Buffers that older writers stored although they follow from the config.
_DERIVED = ("position_ids", "token_type_ids")


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
    previous = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield transformers
    except (MemoryError, ImportError):
        raise
    except Exception as error:
        raise ValueError(
            f"{place}: transformers cannot read it: {type(error).__name__}: {str(error)[:500]}"
        ) from error
    finally:
        transformers.logging.set_verbosity(previous)


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


def build_encoder(checkpoint: Checkpoint, component: str, kind: str, keep: Sequence[str] = ()) -> Any:
    """The encoder in the folder `component`, of the `transformers` class `kind`; `checkpoint.fill` reads its weights,
    or those of the children named in `keep`.

    Raises ValueError naming the missing, unexpected or misshaped tensors, those that hold no floats, and for
    a config that asks for much more than the files hold, before memory is taken.
    """
    folder = checkpoint.root / component
    stored = checkpoint.headers(component, "model")
    checkpoint.json(component, "config.json")
    if (adapter := folder / "adapter_config.json").exists():
        raise ValueError(f"{adapter}: adapters in the place of an encoder are not read")
    with reading(folder) as transformers:
        cls = getattr(transformers, kind)
        config = cls.config_class.from_pretrained(folder, local_files_only=True)
    encoder = empty_encoder(cls, config, stored, str(folder))
    return add_encoder(encoder, stored, hub_names(encoder), str(folder), checkpoint.loader, keep)


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


def hub_names(encoder: nn.Module) -> Convert:
    """The conversion from the Hub's names of an encoder's tensors to its own.

    Whether the names of CLIP's begin with "text_model." depends on the version of `transformers` that wrote them.
    """
    known = set(encoder.state_dict())

    def convert(name: str, tensor: Tensor) -> dict[str, Tensor]:
        spelt = (name, name.removeprefix("text_model."), f"text_model.{name}")
        found = next((name for name in spelt if name in known), None)
        if found is not None:
            return {found: tensor}
        if name.endswith(_DERIVED):
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

    @classmethod
    def build(cls, checkpoint: Checkpoint, suffix: str = "", kind: str = "CLIPTextModel") -> Self:
        """Read `tokenizer/` and build `text_encoder/` of a checkpoint, or those with a `suffix` ("_2"), as a class
        `kind`; `checkpoint.fill` reads the weights.

        Raises ValueError for tensors that do not fit the config.
        """
        tokenizer = load_tokenizer(checkpoint, f"tokenizer{suffix}", "CLIPTokenizer")
        return cls(tokenizer, build_encoder(checkpoint, f"text_encoder{suffix}", kind))

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
    def build(cls, checkpoint: Checkpoint) -> Self:
        """Read `tokenizer_2/` and build `text_encoder_2/`; ValueError for tensors that do not fit the config."""
        tokenizer = load_tokenizer(checkpoint, "tokenizer_2", "T5TokenizerFast")
        return cls(tokenizer, build_encoder(checkpoint, "text_encoder_2", "T5EncoderModel"))

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
