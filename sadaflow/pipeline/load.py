"""Loads a pipeline's networks and scheduler config; all configs are checked before a weight is downloaded or read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..families import Family
from ..families.base import replace_vae
from ..families.hooks import recommended_by
from ..families.single_file import assemble, layout_of_checkpoint
from ..families.single_file_parts import Aid
from ..loading.checkpoint import Checkpoint
from ..loading.embedded import embedded
from ..loading.hub.locate import Name, locate_checkpoint, locate_file, locate_parts
from ..loading.hub.options import HubOptions
from ..loading.paused_collection import collects_afterwards
from ..loading.sampling_defaults import Recommended
from ..loading.single_file.layout import SingleFile
from ..loading.strict import Loader
from ..loading.vae_source import VaeSource
from ..placement.placement import Residence
from .calibrations import Calibrations
from .control import as_list
from .controlnets import ControlNets
from .inputs import read_device, read_dtype
from .prepare import SchedulerSource, prepare_pipeline, scheduler_config

_TOKENIZERS = ("tokenizer", "tokenizer_2")
_BASE_PARTS = ("vae", "text_encoder", "text_encoder_2", *_TOKENIZERS, "scheduler")


@dataclass(frozen=True)
class LoadOptions:
    """Options that `Pipeline.from_pretrained` and `Pipeline.from_single_file` have in common.

    Attributes:
        controlnet: A ControlNet, or several: folders, Hub ids or names of embedded ones.
        scheduler: Scheduler config to use in place of the checkpoint's.
        dtype: Number format of the weights and of what the networks compute.
        device: Where the networks compute.
        offload: Where weights wait that are not in use: None, "model" or "stream".
        tile: Side of the autoencoder's tiles in pixels, or None.
        quantize: Eight-bit format of the large networks' weights: None, "int8" or "fp8".
        vae: Autoencoder to use in place of the checkpoint's: a file, folder or Hub id.
    """

    controlnet: Name | Sequence[Name] | None
    scheduler: SchedulerSource | None
    dtype: torch.dtype | str
    device: str | torch.device
    offload: str | None
    tile: int | None
    quantize: str | None
    vae: Name | None = None

    def vae_source(self, hub: HubOptions) -> VaeSource | None:
        """The autoencoder that the user names, of which a file's header has been checked."""
        return None if self.vae is None else VaeSource.locate(self.vae, hub)

    def controlnets(self, hub: HubOptions) -> ControlNets:
        """The ControlNets, with names of embedded ones replaced by their folders."""
        names = [] if self.controlnet is None else [embedded(name) for name in as_list(self.controlnet)]
        return ControlNets(names, hub)

    def residence(self) -> Residence:
        """Where the weights are kept; raises ValueError if the options contradict each other."""
        return Residence.read(read_device(self.device), self.offload, self.quantize)


@dataclass(frozen=True)
class SingleFileParts:
    """What the user adds to a single file.

    Attributes:
        tokenizer: Checkpoint that has the tokenizers, which no single file holds.
        base: Checkpoint that supplies the other components that the file lacks.
        prediction: "epsilon" or "v_prediction", where the file does not say.
    """

    tokenizer: Name | None
    base: Name | None
    prediction: str | None


@dataclass(frozen=True)
class Loaded:
    """A loaded checkpoint: the arguments of `Pipeline`.

    Attributes:
        name: Name of the checkpoint's folder or file.
        family: Its networks.
        scheduler_config: As the published pipeline uses it.
        dtype: Number format of what the networks compute.
        device: Where they compute.
        residence: Where their weights are kept.
        controlnets: How many ControlNets were loaded.
        recommended: Settings that the checkpoint's authors recommend.
        calibrations: What was measured of the checkpoint.
    """

    name: str
    family: Family
    scheduler_config: dict[str, Any]
    dtype: torch.dtype
    device: torch.device
    residence: Residence
    controlnets: int
    recommended: Recommended = Recommended()
    calibrations: Calibrations = Calibrations()


@collects_afterwards
def load_pretrained(model: Name | None, hub: HubOptions, options: LoadOptions) -> Loaded:
    """Load a checkpoint in the Hub's pipeline layout.

    Args:
        model: A folder, a Hub id or the name of an embedded checkpoint; None for the default one.
        hub: How the Hub is reached. `revision` is that of `model` alone.
        options: See `LoadOptions`.

    Raises:
        ValueError: If the checkpoint or an option is not supported; the field or tensor is named.
        FileNotFoundError, ConnectionError, PermissionError, OSError: If a file cannot be fetched.
    """
    dtype, residence, source = read_dtype(options.dtype), options.residence(), embedded(model)
    if Path(source).is_file():
        layout = layout_of_checkpoint(SingleFile(Path(source)))
        raise ValueError(f"{source} is a single file ({layout.name}): load it by {layout.use}")
    others = hub.for_other_repository()
    controls, vae = options.controlnets(others), options.vae_source(others)
    # Configs and tokenizers come first: an unsupported checkpoint is refused before its weights are downloaded.
    root = locate_checkpoint(source, hub, weights=False)
    checkpoint = Checkpoint(root, hub.variant, dtype, residence.loads, residence.keeper)
    scheduler = scheduler_config(options.scheduler, others)
    prepared = prepare_pipeline(checkpoint, scheduler, options.tile)
    controls.check(checkpoint)
    root = locate_checkpoint(source, hub)
    if root != checkpoint.root:  # a new commit was published since
        checkpoint = replace(checkpoint, root=root)
        prepared = prepare_pipeline(checkpoint, scheduler, options.tile)
    family = prepared.build()
    if vae is not None:
        replace_vae(family, vae, checkpoint.loader)
        family.vae.tile = options.tile
    controls.attach(family, checkpoint)
    calibrations = Calibrations.find(checkpoint.loader.stored(family.backbone), root)
    checkpoint.fill()
    return Loaded(
        root.name,
        family,
        prepared.scheduler,
        dtype,
        residence.device,
        residence,
        len(controls.names),
        prepared.recommended,
        calibrations,
    )


@collects_afterwards
def load_single_file(file: Name, parts: SingleFileParts, hub: HubOptions, options: LoadOptions) -> Loaded:
    """Load a safetensors file in the original layout of Stable Diffusion 1.x, 2.x, XL or Flux.1.

    Args:
        file: A path, or "owner/name/file.safetensors" on the Hub.
        parts: What the file lacks.
        hub: How the Hub is reached. `revision` is that of `file` alone.
        options: See `LoadOptions`.

    Raises:
        ValueError: If the file or an option is not supported; the tensor is named.
        FileNotFoundError, ConnectionError, PermissionError, OSError: If a file cannot be fetched.
    """
    dtype, residence = read_dtype(options.dtype), options.residence()
    if Path(file).is_file():  # what the file is comes before what it lacks
        layout_of_checkpoint(SingleFile(Path(file)))
    if parts.tokenizer is None and parts.base is None:
        raise ValueError(
            f"{file}: a single file holds no tokenizer; name a checkpoint in the Hub's layout that has it: "
            "tokenizer=ID_OR_FOLDER"
        )
    others = hub.for_other_repository()
    loader = Loader(dtype, residence.loads, residence.keeper)
    tokenizer = embedded(parts.base if parts.tokenizer is None else parts.tokenizer)
    base = parts.base and embedded(parts.base)
    aid = Aid(
        lambda: locate_parts(tokenizer, _TOKENIZERS, others),
        None if base is None else lambda: locate_parts(base, _BASE_PARTS, others),
        parts.prediction,
        loader,
        options.vae_source(others),
    )
    controls = options.controlnets(others)
    path = locate_file(file, hub)
    scheduler = scheduler_config(options.scheduler, others)
    checkpoint = aid.checkpoint(path.parent)
    controls.check(checkpoint)
    family, published = assemble(path, aid)
    controls.attach(family, checkpoint)
    family.vae.tile = options.tile
    calibrations = Calibrations.find(loader.stored(family.backbone), None)
    loader.fill()
    used = published if scheduler is None else family.scheduler_config(scheduler)
    made = Loaded(path.stem, family, used, dtype, residence.device, residence, len(controls.names))
    return replace(made, recommended=_recommended(family, aid, scheduler is None), calibrations=calibrations)


def _recommended(family: Family, aid: Aid, own_scheduler: bool) -> Recommended:
    """What the authors of an architecture recommend, whose configs are those of `base`."""
    base = None if aid.base is None else aid.checkpoint(aid.base())
    if base is None:
        return Recommended()
    found = recommended_by(type(family), lambda name: base.json(*name.split("/")))
    return found if own_scheduler else replace(found, steps=None, solver=None)
