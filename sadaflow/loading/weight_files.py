"""Strict loading of safetensors into a module: by name, by shape, straight from the file to the device."""

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


def same(name: str) -> str:
    return name


_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


def find_weights(folder: Path, stem: str, variant: str | None = None) -> list[Path]:
    """The safetensors files of a component: one file, or the shards that its index names.

    `stem` is "diffusion_pytorch_model" or "model". A `variant` ("fp16") that is absent falls back to the plain files.
    Raises FileNotFoundError, and ValueError where only pickled weights exist or an index leads out of the folder.
    """
    files = _written(folder, stem, f".{variant}") if variant else []
    if not files:
        files = _written(folder, stem, "")
        if files and variant:
            warnings.warn(f"{folder.name} has no variant {variant!r}; its plain weights are taken", stacklevel=4)
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


def _written(folder: Path, stem: str, mark: str) -> list[Path]:
    """The files of the variant that `mark` (".fp16") stands for, if there are any."""
    single = folder / f"{stem}{mark}.safetensors"
    if single.is_file():
        return [single]
    for index in (folder / f"{stem}.safetensors.index{mark}.json", folder / f"{stem}.safetensors{mark}.index.json"):
        if index.is_file():
            return _shards(index)
    return []


def _shards(index: Path) -> list[Path]:
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


def check_names(place: str, expected: set[str], found: set[str]) -> None:
    """ValueError that counts and names what is missing from `found` and what is too much."""
    problems = []
    for label, names in (("missing", expected - found), ("unexpected", found - expected)):
        if names:
            first = ", ".join(name[:200] for name in sorted(names)[:5])
            problems.append(f"{len(names)} {label} ({first}{', ...' if len(names) > 5 else ''})")
    if problems:
        raise ValueError(f"{place}: the tensors do not match the config: {'; '.join(problems)}")


_INITIAL = (nn.init.kaiming_uniform_, nn.init.uniform_, torch.Tensor.fill_, torch.Tensor.zero_)
"""What gives weights their first values: nothing to do on the meta device."""
_SIZED = (torch.empty, torch.zeros, torch.ones, torch.full, torch.arange, torch.linspace)


class _Frugal(TorchFunctionMode):
    """While a module is built on the meta device: refuses more tensors than `limit`, and sizes that cannot be."""

    def __init__(self, place: str, limit: int) -> None:
        super().__init__()
        self.place, self.limit, self.longest = place, limit, limit

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _INITIAL:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if func not in _SIZED:
            return func(*args, **kwargs)
        self.limit -= 1
        if self.limit < 0:
            raise ValueError(f"{self.place}: the config asks for far more tensors than the weights have")
        try:
            # Some are made on the CPU whatever the device is, as lists of one number per layer.
            real = kwargs.get("device") not in (None, "meta", torch.device("meta"))
            if real and func(*args, **{**kwargs, "device": "meta"}).numel() > self.longest:
                raise ValueError(f"{self.place}: the config asks for far more layers than the weights have")
            return func(*args, **kwargs)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"{self.place}: the config asks for a tensor that cannot be: {error}") from error


def build_empty(build: Callable[[], Module], stored: Sequence[Stored], place: str) -> Module:
    """A module on the meta device, for the weights `stored` at a `place`.

    Neither memory nor time goes beyond what their number warrants: ValueError instead.
    """
    with torch.device("meta"), _Frugal(place, 4 * len(stored) + 1000):
        return build()


def refuse_oversized(empty: nn.Module, stored: Sequence[Stored], place: str) -> None:
    """Raise ValueError for a module of more than twice the numbers that are `stored`, before memory is taken for it."""
    asked = sum(tensor.numel() for tensor in (*empty.parameters(), *empty.buffers()))
    held = sum(one.elements for one in stored)
    if asked > 2 * held:
        raise ValueError(f"{place}: the config asks for {asked} numbers, the weights are {held}: one is wrong")


def refuse(place: str, what: str, problems: list[str]) -> None:
    """Raise ValueError that counts the problems and names the first five."""
    if problems:
        more = "; ..." if len(problems) > 5 else ""
        raise ValueError(f"{place}: {len(problems)} {what}: {'; '.join(problems[:5])}{more}")
