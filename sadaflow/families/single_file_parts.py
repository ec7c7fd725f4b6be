"""Sources of the components of a single file: the file itself, and the checkpoints that a user names beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sadaflow.models import Autoencoder

from ..loading.checkpoint import Checkpoint
from ..loading.layouts.autoencoders import VAES
from ..loading.single_file import autoencoder
from ..loading.single_file import text_encoder as text
from ..loading.single_file.layout import SingleFile
from ..loading.strict import Loader
from ..loading.text_encoder import prepare_encoder
from ..loading.tokenizer_files import check_ids, load_tokenizer
from ..loading.vae_source import VaeSource
from .base import autoencoder_config, build_autoencoder
from .prompt_encoder import ClipText, T5Text

_SCHEDULER = ("scheduler", "scheduler_config.json")


@dataclass(frozen=True)
class Aid:
    """Sources of what a single file lacks, and how its weights are loaded.

    Attributes:
        tokenizer: Returns a folder in the Hub's layout with the tokenizers; it may download it.
        base: Likewise a folder with the components that the file lacks; None if the user names none.
        prediction: What the network predicts, if the user says so.
        loader: How weights are loaded.
        vae: The autoencoder to use in place of the file's.
    """

    tokenizer: Callable[[], Path]
    base: Callable[[], Path] | None
    prediction: str | None
    loader: Loader
    vae: VaeSource | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the networks."""
        return self.loader.dtype

    def checkpoint(self, root: Path) -> Checkpoint:
        """The checkpoint in a folder, loaded as the file is."""
        loader = self.loader
        return Checkpoint(root, None, loader.dtype, loader.device, loader.keeper, loader.pending)

    def from_base(self, component: str, file: SingleFile) -> Checkpoint:
        """The checkpoint `base`, for a component that the file lacks; raises ValueError if there is none."""
        if self.base is None:
            raise ValueError(
                f"{file.path} holds no {component}: name a checkpoint in the Hub's layout that has it, "
                "base=ID_OR_FOLDER"
            )
        return self.checkpoint(self.base())

    def base_scheduler(self) -> dict[str, Any] | None:
        """The scheduler config of `base`; None without one."""
        base = None if self.base is None else self.checkpoint(self.base())
        if base is None or not base.path(*_SCHEDULER).is_file():
            return None
        return base.json(*_SCHEDULER)


def load_vae(file: SingleFile, aid: Aid, scaling: dict[str, Any], *, statistics: bool = False) -> Autoencoder:
    """Build the autoencoder: that which the user names, or the file's, or that of `aid.base`.

    Args:
        file: The file.
        aid: Sources of what it lacks.
        scaling: Fields of the published config that do not follow from shapes.
        statistics: See `autoencoder_config`.

    Raises:
        ValueError: If there is none, or if its tensors do not fit.
    """
    if aid.vae is not None:
        return aid.vae.build(Autoencoder, scaling, aid.loader)
    prefix = next((prefix for prefix in VAES if file.has(prefix)), None)
    if prefix is not None:
        return autoencoder.load(file.section(prefix), scaling, aid.loader)
    base = aid.from_base("autoencoder", file)
    return build_autoencoder(base, autoencoder_config(base, statistics=statistics))


def load_clip(file: SingleFile, aid: Aid, prefix: str, style: str, *, projection: bool = False) -> ClipText:
    """Build a CLIP text encoder of the file, with the tokenizer of `aid`.

    Args:
        file: The file.
        aid: Sources of what it lacks.
        prefix: What the names of its tensors begin with.
        style: "clip", "open_clip", or "clip_g" and "clip_h" for OpenCLIP under CLIP's names.
        projection: Whether its projected pooled state is used.
    """
    section = file.section(prefix)
    tokenizer = clip_tokenizer(aid.checkpoint(aid.tokenizer()), style != "clip")
    encoder = text.load_text(section, style, aid.loader, projection=projection)
    check_ids(tokenizer, encoder.config.vocab_size, section.label)
    return ClipText(tokenizer, encoder)


def load_t5(file: SingleFile, aid: Aid, prefix: str | None) -> T5Text:
    """Build the T5 encoder of the file, or that of `aid.base` if `prefix` is None, with the tokenizer of `aid`."""
    if prefix is not None:
        encoder = text.load_t5(file.section(prefix), aid.loader)
    else:
        base = aid.from_base("T5 text encoder", file)
        encoder = prepare_encoder(base, "text_encoder_2", "T5EncoderModel").build()
    tokenizer = load_tokenizer(aid.checkpoint(aid.tokenizer()), "tokenizer_2", "T5TokenizerFast")
    check_ids(tokenizer, encoder.config.vocab_size, str(file.path))
    return T5Text(tokenizer, encoder)


def clip_tokenizer(checkpoint: Checkpoint, open_clip: bool) -> Any:
    """The CLIP tokenizer of a checkpoint, which pads with "!" for OpenCLIP and with the end token otherwise."""
    for folder in ("tokenizer_2", "tokenizer") if open_clip else ("tokenizer",):
        config = checkpoint.path(folder, "tokenizer_config.json")
        if not config.is_file() or not str(checkpoint.json(folder, config.name).get("tokenizer_class")).startswith(
            "CLIP"
        ):
            continue
        settings = {"pad_token": "!"} if open_clip else {}
        tokenizer = load_tokenizer(checkpoint, folder, "CLIPTokenizer", **settings)
        if not open_clip and tokenizer.pad_token != tokenizer.eos_token:
            raise ValueError(
                f"{checkpoint.path(folder)} pads with {tokenizer.pad_token!r}, as for SD 2.x; this text encoder was "
                "trained with the end token: name the tokenizer of an SD 1.x, SDXL or Flux.1 checkpoint"
            )
        return tokenizer
    raise ValueError(f"{checkpoint.root} has no CLIP tokenizer in a folder tokenizer/")
