"""Loads ControlNets beside a U-Net: folders in the Hub's layout, and single files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sadaflow.models import ControlNet, ControlNetConfig

from ..families import Family
from ..families.unet import LatentUNet
from ..loading.checkpoint import Checkpoint
from ..loading.hub.locate import Name, is_file_name, locate_checkpoint, locate_file
from ..loading.hub.options import HubOptions
from ..loading.layouts.controlnets import WORKS_WITH
from ..loading.layouts.table import require_layout
from ..loading.single_file import controlnet
from ..loading.single_file.layout import Section, SingleFile

_CHECKPOINT = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")
_OTHER_CLASSES = {
    "ControlNetUnionModel": (
        "num_control_type",
        "reads the type of its picture as well, which is not supported; use the ControlNet of a single condition, such "
        "as xinsir/controlnet-canny-sdxl-1.0",
    ),
    "FluxControlNetModel": ("num_mode", f"steers a transformer, which is not supported; {WORKS_WITH}"),
    "SD3ControlNetModel": ("num_layers", f"steers a transformer, which is not supported; {WORKS_WITH}"),
    "T2IAdapter": ("adapter_type", "is not a ControlNet, and not supported; use a ControlNet of the same condition"),
}
"""Published classes that steer by a picture and are not supported: the field that differs, and the reason."""


def prepare_controlnet(checkpoint: Checkpoint) -> Callable[[], ControlNet]:
    """Read and check the config of a ControlNet, in a folder with config.json and weights.

    Returns:
        A function that builds the network and matches it with the weight files; `checkpoint.fill` reads these.

    Raises:
        ValueError: If the folder holds another class, or if the config cannot be honoured.
    """
    raw = checkpoint.json("config.json")
    found = str(raw.get("_class_name"))
    if found in _OTHER_CLASSES:
        field, reason = _OTHER_CLASSES[found]
        value = f"{field}={raw.get(field)!r}: " if raw.get(field) is not None else ""
        raise ValueError(f"{checkpoint.path('', 'config.json')}: {value}a {found} {reason}")
    if found != "ControlNetModel":
        raise ValueError(f"{checkpoint.root} holds a {found[:80]}; controlnet= takes a ControlNetModel")
    config = checkpoint.read(ControlNetConfig.from_dict, "config.json")
    return lambda: checkpoint.network("", lambda: ControlNet(config))


@dataclass(frozen=True)
class ControlNets:
    """The ControlNets that a user names.

    Attributes:
        names: Folders, Hub ids, or single files (a path or "owner/name/file.safetensors").
        hub: How the Hub is reached.
    """

    names: Sequence[Name]
    hub: HubOptions

    def check(self, like: Checkpoint) -> None:
        """Check the configs, without the weights; single files by their headers.

        Raises:
            ValueError: If one of them is not a ControlNet, or its config cannot be honoured.
        """
        for name in self.names:
            if is_file_name(name):
                read_controlnet_file(locate_file(name, self.hub))
                continue
            root = locate_checkpoint(name, self.hub, marker="config.json", weights=False)
            prepare_controlnet(replace(like, root=root))

    def attach(self, family: Family, like: Checkpoint) -> None:
        """Build the ControlNets, whose weights `like.fill` reads, beside the U-Net of `family`.

        Raises:
            ValueError: If the family has no U-Net, or if a ControlNet does not fit it or its own weight files.
        """
        if not self.names:
            return
        if not isinstance(family, LatentUNet):
            raise ValueError(f"controlnet= needs a checkpoint with a U-Net, not {type(family).__name__}")
        family.control([self._build(name, family, like) for name in self.names])

    def _build(self, name: Name, family: LatentUNet, like: Checkpoint) -> ControlNet:
        if not is_file_name(name):
            root = locate_checkpoint(name, self.hub, marker="config.json")
            return prepare_controlnet(replace(like, root=root))()
        section = read_controlnet_file(path := locate_file(name, self.hub))
        # The weights do not show it, and the only published ControlNet of this kind is named so.
        pooled = "shuffle" in path.stem.lower()
        return controlnet.load(section, family.backbone.config, like.loader, pooled=pooled)


def read_controlnet_file(path: Path) -> Section:
    """The tensors of a ControlNet in a single file.

    Args:
        path: The file.

    Raises:
        ValueError: If it is of another kind, or of a layout that is not supported.
    """
    file = SingleFile(path)
    layout = require_layout(file.all_shapes, path, ("controlnet",), "a ControlNet")
    # The first published files hold the whole checkpoint that the ControlNet was trained with.
    file.check_read((layout.prefix, *(_CHECKPOINT if layout.prefix else ())))
    return file.section(layout.prefix)
