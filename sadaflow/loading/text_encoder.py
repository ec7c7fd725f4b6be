"""Loads text encoders and vocoders: their configs first, then networks that are matched with the weight files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoint import Checkpoint
from .decoder_fields import DECODERS
from .json_file import naming
from .safetensors_file import Stored
from .strict import Convert, Loader, UnknownTensor
from .text_config import encoder_fields, is_whole_clip
from .tokenizer_files import check_ids
from .transformers_package import reading, transformers_module
from .weight_files import build_empty, refuse_oversized

# Buffers that some files contain although they follow from the config.
_DERIVED = ("position_ids", "token_type_ids")
# Rotary frequencies, which a module of its own computes from the config.
_ROTARY = ("inv_freq", "original_inv_freq")
# Tensors beside the text encoder in a file of CLIP with both halves.
_OTHER_HALF = ("vision_model.", "visual_projection.", "logit_scale")
_PROJECTION = "text_projection."
# Prefixes of a language model's tensors.
_DECODER = ("model.language_model.", "language_model.model.", "model.")
BESIDE = tuple(
    f"{prefix}{name}."
    for prefix in ("", "model.", "language_model.")
    for name in ("lm_head", "vision_tower", "visual", "multi_modal_projector")
)
"""Beginnings of names of tensors that belong to a language model and not to the encoder."""


@dataclass(frozen=True)
class PreparedEncoder:
    """A text encoder or vocoder of a checkpoint whose config is read and checked, and whose weights are not read.

    Attributes:
        checkpoint: The checkpoint.
        component: Its folder in the checkpoint ("text_encoder").
        class_name: Its class in `transformers`.
        config: Its `transformers` config, made from known fields only.
        ignored: Prefixes of tensor names in its files that belong to other networks.
        tokenizer: The tokenizer of its prompts, checked against it; None if it has none.
    """

    checkpoint: Checkpoint
    component: str
    class_name: str
    config: Any
    ignored: tuple[str, ...] = ()
    tokenizer: Any = None

    def build(self, keep: Sequence[str] = ()) -> Any:
        """Build the encoder on the meta device; `checkpoint.fill` reads its weights.

        Args:
            keep: Names of the children whose weights are read; empty for all.

        Raises:
            ValueError: If tensors are missing, unexpected, misshaped or of the wrong type, or if the config asks for
                much more than the files hold.
        """
        label, checkpoint = str(self.checkpoint.path(self.component)), self.checkpoint

        def build() -> Any:
            return getattr(transformers_module(), self.class_name)(self.config)

        if self.component in checkpoint.replaced:
            return checkpoint.replaced[self.component].load(build, checkpoint.loader)
        stored = checkpoint.headers(self.component, "model")
        encoder = empty_encoder(build, stored, label)
        return add_encoder(encoder, stored, hub_names(encoder, self.ignored), label, checkpoint.loader, keep)


def prepare_encoder(checkpoint: Checkpoint, component: str, class_name: str, tokenizer: Any = None) -> PreparedEncoder:
    """Read and check the config of an encoder, without its weights.

    Args:
        checkpoint: The checkpoint.
        component: Folder of the encoder in it ("text_encoder").
        class_name: Class of the encoder in `transformers`.
        tokenizer: The tokenizer of its prompts, if it has one.

    Raises:
        FileNotFoundError: If config.json is missing.
        ValueError: If a field has a wrong value or is not supported, or if the tokenizer has tokens that the encoder
            cannot embed.
    """
    folder = checkpoint.path(component)
    raw = checkpoint.json(component, "config.json")
    if (adapter := folder / "adapter_config.json").exists():
        raise ValueError(f"{adapter}: an adapter in place of an encoder is not supported")
    with naming(folder / "config.json"):
        fields = encoder_fields(raw, class_name)
    with reading(folder) as transformers:
        config = getattr(transformers, class_name).config_class(**fields)
    ignored: tuple[str, ...] = ()
    if class_name.startswith("CLIPText") and is_whole_clip(raw):
        ignored = _OTHER_HALF if class_name == "CLIPTextModelWithProjection" else (*_OTHER_HALF, _PROJECTION)
    if class_name in DECODERS:
        ignored = BESIDE
    if tokenizer is not None:
        vocabulary = getattr(config, "text_config", config).vocab_size
        check_ids(tokenizer, vocabulary, str(folder / "config.json"))
    return PreparedEncoder(checkpoint, component, class_name, config, ignored, tokenizer)


def empty_encoder(build: Callable[[], Any], stored: Sequence[Stored], label: str) -> Any:
    """Build an encoder on the meta device.

    Args:
        build: Builds it from its config.
        stored: All tensors in its files.
        label: The file or folder, for errors.

    Raises:
        ValueError: If `transformers` refuses the config, or if it asks for much more than the files hold.
    """
    with reading(label):
        encoder = build_empty(build, stored, label)
    refuse_oversized(encoder, stored, label)
    return encoder


def add_encoder(
    encoder: Any, stored: Sequence[Stored], convert: Convert, label: str, loader: Loader, keep: Sequence[str] = ()
) -> Any:
    """Match an encoder on the meta device with stored tensors, and compute buffers that follow from its config.

    Modules that `transformers` keeps in float32 are kept so in float16. Arguments and errors are those of `Loader.add`.
    """
    encoder.tie_weights()
    loader.add(encoder, stored, convert, label, keep=keep)
    if loader.dtype is torch.float16:
        for name, module in encoder.named_modules():
            if name.rpartition(".")[2] in (encoder._keep_in_fp32_modules or ()):
                module.float()
    stored_names = encoder.state_dict().keys()
    for name, buffer in encoder.named_buffers():
        if name not in stored_names and (not keep or name.startswith(tuple(keep))):
            _compute_buffer(encoder, name, buffer, label)
    return encoder


def _compute_buffer(encoder: Any, name: str, buffer: Tensor, label: str) -> None:
    """Set a buffer that is not stored and follows from the config."""
    owner, _, leaf = name.rpartition(".")
    if leaf == "position_ids":
        value = torch.arange(buffer.shape[-1]).expand(buffer.shape)
    elif leaf == "token_type_ids":
        value = torch.zeros(buffer.shape, dtype=torch.long)
    elif leaf in _ROTARY:
        module = encoder.get_submodule(owner)
        value = getattr(type(module)(getattr(module, "config", encoder.config)), leaf)
    else:
        raise ValueError(f"{label}: {type(encoder).__name__} has an unknown buffer {name}, which is not stored")
    encoder.get_submodule(owner).register_buffer(leaf, value, persistent=False)


def hub_names(encoder: nn.Module, ignored: tuple[str, ...] = ()) -> Convert:
    """The conversion from the Hub's names of an encoder's tensors to the encoder's own.

    Names of CLIP's tensors begin with "text_model." or not, depending on the version of `transformers`; those of
    language models begin with "model.".

    Args:
        encoder: The encoder.
        ignored: Prefixes of names that belong to other networks.
    """
    known = set(encoder.state_dict())

    def convert(name: str, tensor: Tensor) -> dict[str, Tensor]:
        bare = [name.removeprefix(prefix) for prefix in ("text_model.", *_DECODER)]
        spellings = (name, *bare, f"text_model.{name}", *(f"language_model.{each}" for each in bare))
        found = next((name for name in spellings if name in known), None)
        if found is not None:
            return {found: tensor}
        if name.endswith(_DERIVED) or (ignored and name.startswith(ignored)):
            return {}
        raise UnknownTensor(f"tensor {name!r} is not part of the encoder")

    return convert
