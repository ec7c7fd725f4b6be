"""Text encoders and vocoders of a checkpoint's folders: configs first, then weights, strictly."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .checkpoint import Checkpoint
from .jsonfile import naming
from .safetensor_file import Stored, read_headers
from .stored_weights import StoredWeights
from .text_config import encoder_fields, is_whole_clip
from .tokenizer_files import check_ids
from .transformers_package import reading
from .weights import build_empty, check_names, find_weights, is_finite, refuse_oversized

# Buffers that older writers stored although they follow from the config.
_DERIVED = ("position_ids",)
# What a file of CLIP with both halves holds beside the text encoder.
_OTHER_HALF = ("vision_model.", "visual_projection.", "logit_scale")
_PROJECTION = "text_projection."
_LEFT = ("CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel")


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

    def load(self) -> Any:
        """Builds the encoder and fills it strictly; raises as `load_encoder`."""
        return _load(self)


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
    return PreparedEncoder(checkpoint, component, kind, config, aside, tokenizer)


def load_encoder(checkpoint: Checkpoint, component: str, kind: str) -> Any:
    """The encoder in the folder `component`, of the `transformers` class `kind`, strictly filled.

    Raises ValueError naming the missing, unexpected or misshaped tensors, those that hold no floats or NaN, and for
    a config that asks for much more than the files hold, before memory is taken.
    """
    return prepare_encoder(checkpoint, component, kind).load()


def _load(encoder: PreparedEncoder) -> Any:
    checkpoint, kind, config = encoder.checkpoint, encoder.kind, encoder.config
    folder = checkpoint.root / encoder.component
    files = find_weights(folder, "model", checkpoint.variant)
    with reading(folder) as transformers:
        cls = getattr(transformers, kind)
        stored = [one for one in read_headers(files) if not one.name.startswith(encoder.aside)]
        empty = build_empty(lambda: cls(config), stored, str(folder))
    for one in stored:
        if not one.is_float and one.name.endswith((".weight", ".bias")):
            raise ValueError(f"{one.path}: {one.name} holds {one.kind}, expected floats")
    refuse_oversized(empty, stored, str(folder))
    if checkpoint.keeper is not None and kind in _LEFT:
        _leave(empty, stored, checkpoint, str(folder))
        return empty
    network = _filled(encoder, cls, files).to(checkpoint.device).requires_grad_(False).eval()
    for name, parameter in network.named_parameters():
        if not is_finite(parameter):
            raise ValueError(f"{folder}: {name} holds NaN or infinity in {checkpoint.dtype}")
    return network


def _filled(encoder: PreparedEncoder, cls: Any, files: Sequence[Path]) -> Any:
    """An encoder of the `transformers` class `cls` with its weights; raises ValueError for tensors that do not fit."""
    checkpoint, variant = encoder.checkpoint, encoder.checkpoint.variant
    folder = checkpoint.root / encoder.component
    with reading(folder):
        network, report = cls.from_pretrained(
            folder,
            config=encoder.config,
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
        if not name.endswith(_DERIVED) and not name.startswith(encoder.aside)
    }
    check_names(str(folder), set(report["missing_keys"]), unexpected)
    if report["mismatched_keys"]:
        name, found, expected = next(iter(report["mismatched_keys"]))
        raise ValueError(f"{folder}: misshaped: {name} is {tuple(found)}, expected {tuple(expected)}")
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
