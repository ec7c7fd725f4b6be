"""Text encoders and vocoders of a checkpoint's folders: configs first, then networks that fit the weight files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoint import Checkpoint
from .json_file import naming
from .safetensors_file import Stored
from .strict import Convert, Loader, UnknownTensor
from .text_config import encoder_fields, is_whole_clip
from .tokenizer_files import check_ids
from .transformers_package import reading, transformers_module
from .weight_files import build_empty, refuse_oversized

# Buffers that older writers stored although they follow from the config.
_DERIVED = ("position_ids", "token_type_ids")
# What a file of CLIP with both halves holds beside the text encoder.
_OTHER_HALF = ("vision_model.", "visual_projection.", "logit_scale")
_PROJECTION = "text_projection."


@dataclass(frozen=True)
class PreparedEncoder:
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
        place, checkpoint = str(self.checkpoint.path(self.component)), self.checkpoint
        stored = checkpoint.headers(self.component, "model")
        encoder = empty_encoder(getattr(transformers_module(), self.kind), self.config, stored, place)
        return add_encoder(encoder, stored, hub_names(encoder, self.aside), place, checkpoint.loader, keep)


def prepare_encoder(checkpoint: Checkpoint, component: str, kind: str, tokenizer: Any = None) -> PreparedEncoder:
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
    folder = checkpoint.path(component)
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
    return PreparedEncoder(checkpoint, component, kind, config, aside, tokenizer)


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
