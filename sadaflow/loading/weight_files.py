"""Finds a component's weight files, and builds networks that are no larger than the files warrant."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .hub.layout import variants
from .json_file import read_object
from .safetensors_file import Stored

Module = TypeVar("Module", bound=nn.Module)


_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


def find_weights(folder: Path, stem: str, variant: str | None = None) -> list[Path]:
    """The safetensors files of a component: a single file, or the shards that its index names.

    Args:
        folder: The component's folder.
        stem: "diffusion_pytorch_model" or "model".
        variant: Variant to prefer ("fp16"); if it is absent the plain files are used, with a warning.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there are only pickled weights, or if an index leads out of the folder.
    """
    files = _files_of_variant(folder, stem, f".{variant}") if variant else []
    if not files:
        files = _files_of_variant(folder, stem, "")
        if files and variant:
            warnings.warn(f"{folder.name} has no variant {variant!r}; its plain weights are used", stacklevel=4)
    if files:
        return files
    if not folder.is_dir():
        raise FileNotFoundError(f"the checkpoint has no folder {folder}")
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
    if pickles:
        raise ValueError(
            f"{folder} holds pickled weights only ({', '.join(pickles)}), which can run code when read; "
            f"convert them to {stem}.safetensors"
        )
    others = variants(path.name for path in folder.iterdir())
    hint = f", but the variant {' and '.join(map(repr, others))}: pass variant=" if others else ""
    raise FileNotFoundError(f"{folder} holds no {stem}.safetensors{hint}")


def _files_of_variant(folder: Path, stem: str, suffix: str) -> list[Path]:
    """The files whose variant is `suffix` (".fp16", or "" for the plain ones); empty if there are none."""
    single = folder / f"{stem}{suffix}.safetensors"
    if single.is_file():
        return [single]
    for index in (folder / f"{stem}.safetensors.index{suffix}.json", folder / f"{stem}.safetensors{suffix}.index.json"):
        if index.is_file():
            return _shards(index)
    return []


def _shards(index: Path) -> list[Path]:
    """The shards that an index names; raises ValueError or FileNotFoundError unless all are files beside it."""
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()) or not shards:
        raise ValueError(f"{index} is not a shard index: it needs a JSON object with a 'weight_map' to file names")
    names = sorted(set(shards.values()))
    for name in names:
        if Path(name).name != name or "\\" in name or "\0" in name:
            raise ValueError(f"{index} names a shard outside its folder: {name[:80]!r}")
        if len(name) > 255 or not (index.parent / name).is_file():
            raise FileNotFoundError(f"{index} names the shard {name[:80]!r}, which is missing from {index.parent}")
    return [index.parent / name for name in names]


def check_names(label: str, expected: set[str], found: set[str]) -> None:
    """Compare the names of tensors.

    Args:
        label: The file or folder, for errors.
        expected: Names in the network.
        found: Names in the files.

    Raises:
        ValueError: If they differ; missing and unexpected names are counted, and the first five of each listed.
    """
    problems = []
    for what, names in (("missing", expected - found), ("unexpected", found - expected)):
        if names:
            first = ", ".join(name[:200] for name in sorted(names)[:5])
            problems.append(f"{len(names)} {what} ({first}{', ...' if len(names) > 5 else ''})")
    if problems:
        raise ValueError(f"{label}: the tensors do not match the config: {'; '.join(problems)}")


_INITIAL = (nn.init.kaiming_uniform_, nn.init.uniform_, torch.Tensor.fill_, torch.Tensor.zero_)
"""Functions that initialise weights; they are skipped on the meta device."""
_ALLOCATING = (torch.empty, torch.zeros, torch.ones, torch.full, torch.arange, torch.linspace)


class _Frugal(TorchFunctionMode):
    """Limits the number and the sizes of tensors while a module is built on the meta device.

    Args:
        label: The file or folder, for errors.
        limit: The most tensors, and the most elements of a tensor with memory.
    """

    def __init__(self, label: str, limit: int) -> None:
        super().__init__()
        self.label, self.limit, self.longest = label, limit, limit

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _INITIAL:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if func not in _ALLOCATING:
            return func(*args, **kwargs)
        self.limit -= 1
        if self.limit < 0:
            raise ValueError(f"{self.label}: the config asks for far more tensors than the weights have")
        try:
            # Some tensors have memory although the device is meta, such as those of one number per layer.
            real = kwargs.get("device") not in (None, "meta", torch.device("meta"))
            if real and func(*args, **{**kwargs, "device": "meta"}).numel() > self.longest:
                raise ValueError(f"{self.label}: the config asks for far more layers than the weights have")
            return func(*args, **kwargs)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"{self.label}: the config asks for an impossible tensor: {error}") from error


def build_empty(build: Callable[[], Module], stored: Sequence[Stored], label: str) -> Module:
    """Build a module on the meta device, within limits that the number of stored tensors sets.

    Args:
        build: Builds the module.
        stored: All tensors that belong to it.
        label: The file or folder, for errors.

    Raises:
        ValueError: If the config asks for many more tensors or layers than are stored, or for an impossible size.
    """
    with torch.device("meta"), _Frugal(label, 4 * len(stored) + 1000):
        return build()


def refuse_oversized(empty: nn.Module, stored: Sequence[Stored], label: str) -> None:
    """Raise ValueError if a module has more than twice the elements that are stored, before memory is allocated."""
    asked = sum(tensor.numel() for tensor in (*empty.parameters(), *empty.buffers()))
    held = sum(tensor.elements for tensor in stored)
    if asked > 2 * held:
        raise ValueError(f"{label}: the config asks for {asked} numbers, but the weight files hold {held}")


def refuse(label: str, what: str, problems: list[str]) -> None:
    """Raise ValueError with the number of problems and the first five of them, if there are any."""
    if problems:
        more = "; ..." if len(problems) > 5 else ""
        raise ValueError(f"{label}: {len(problems)} {what}: {'; '.join(problems[:5])}{more}")
