"""Loads the ControlNets of a checkpoint: folders in the Hub's layout, and for U-Nets single files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from ..families import CONTROLNETS, REGISTRY, Family
from ..families.unet import LatentUNet
from ..loading.checkpoint import Checkpoint
from ..loading.hub.locate import Name, is_file_name, locate_checkpoint, locate_file
from ..loading.hub.options import HubOptions
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
    "T2IAdapter": ("adapter_type", "is not a ControlNet, and not supported; use a ControlNet of the same condition"),
}
"""Published classes that steer by a picture and are not supported: the field that differs, and the reason."""


@dataclass(frozen=True)
class PreparedControlNet:
    """A ControlNet whose config has been read and checked, and whose weight files have not.

    Attributes:
        class_name: Its class, as config.json names it.
        build: Builds the network and matches it with the weight files; `checkpoint.fill` reads these.
    """

    class_name: str
    build: Callable[[], nn.Module]


def prepare_controlnet(checkpoint: Checkpoint, name: str = "") -> PreparedControlNet:
    """Read and check the config of a ControlNet, in a folder with config.json and weights.

    Args:
        checkpoint: The folder, and how it is loaded.
        name: The name that it was published under.

    Raises:
        ValueError: If the folder holds another class, or if the config cannot be honoured.
    """
    raw = checkpoint.json("config.json")
    found = str(raw.get("_class_name"))
    if found in _OTHER_CLASSES:
        field, reason = _OTHER_CLASSES[found]
        value = f"{field}={raw.get(field)!r}: " if raw.get(field) is not None else ""
        raise ValueError(f"{checkpoint.path('', 'config.json')}: {value}a {found} {reason}")
    if found not in CONTROLNETS:
        raise ValueError(f"{checkpoint.root} holds a {found[:80]}; controlnet= takes a {' or '.join(CONTROLNETS)}")
    known = CONTROLNETS[found]
    config = checkpoint.read(known.config, "config.json")
    if hasattr(config, "named"):
        config = config.named(name)
    return PreparedControlNet(found, lambda: checkpoint.network("", lambda: known.network(config)))


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
        """Build the ControlNets, whose weights `like.fill` reads, beside the network of `family`.

        One that is named several times is built once, and steers by several pictures.

        Raises:
            ValueError: If the family has no ControlNets, or if one does not fit its network or its own weight files.
        """
        if not self.names:
            return
        if not getattr(family, "controlnets", None):
            steerable = sorted({kind.__name__ for kind in REGISTRY.built_in.values() if hasattr(kind, "controlnets")})
            raise ValueError(
                f"controlnet= is not for {type(family).__name__} checkpoints; those of {', '.join(steerable)} have it"
            )
        built = {name: self._build(name, family, like) for name in dict.fromkeys(self.names)}
        family.control([built[name] for name in self.names])  # type: ignore[attr-defined]

    def _build(self, name: Name, family: Family, like: Checkpoint) -> nn.Module:
        known: Sequence[str] = [*family.controlnets]  # type: ignore[attr-defined]
        if not is_file_name(name):
            root = locate_checkpoint(name, self.hub, marker="config.json")
            prepared = prepare_controlnet(replace(like, root=root), Path(name).name)
            if prepared.class_name not in known:
                raise ValueError(
                    f"controlnet={str(name)!r} is a {prepared.class_name}; a {type(family).__name__} checkpoint takes "
                    f"a {' or '.join(known)}"
                )
            return prepared.build()
        section = read_controlnet_file(path := locate_file(name, self.hub))
        if not isinstance(family, LatentUNet):
            raise ValueError(
                f"controlnet={str(name)!r} is the ControlNet of a U-Net in a single file; a {type(family).__name__} "
                f"checkpoint takes a folder or a Hub id of a {' or '.join(known)}"
            )
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
