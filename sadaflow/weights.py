"""Strict loading of safetensors into a module: by name, by shape, straight from the file to the device."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

Module = TypeVar("Module", bound=nn.Module)
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


def find_weights(folder: Path, stem: str, variant: str | None = None) -> list[Path]:
    """The safetensors files of a component: one file, or the shards that its index names.

    `stem` is "diffusion_pytorch_model" or "model". A `variant` ("fp16") that is absent falls back to the plain files.
    Raises FileNotFoundError, and ValueError where only pickled weights exist or an index leads out of the folder.
    """
    marks = ("", f".{variant}") if variant else ("",)
    for mark in reversed(marks):
        single = folder / f"{stem}{mark}.safetensors"
        if single.is_file():
            return [single]
        for index in (folder / f"{stem}.safetensors.index{mark}.json", folder / f"{stem}.safetensors{mark}.index.json"):
            if index.is_file():
                return _shards(index)
    if not folder.is_dir():
        raise FileNotFoundError(f"the checkpoint has no folder {folder}")
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
    if pickles:
        raise ValueError(
            f"{folder} holds pickled weights only ({', '.join(pickles)}), which can run code when read; "
            f"convert them to {stem}.safetensors"
        )
    raise FileNotFoundError(f"{folder} holds no {stem}.safetensors")


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (json.JSONDecodeError, KeyError, AttributeError) as error:
        raise ValueError(f"{index} is not a shard index: it needs a JSON object with a 'weight_map'") from error
    for name in names:
        if Path(name).name != name:
            raise ValueError(f"{index} names a shard outside its folder: {name!r}")
        if not (index.parent / name).is_file():
            raise FileNotFoundError(f"{index} names the shard {name!r}, which is missing from {index.parent}")
    return [index.parent / name for name in names]


def open_safetensors(path: Path) -> safe_open:
    """Open a safetensors file for reading; ValueError if it is truncated or is something else."""
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        # Only now: the length that a safetensors file begins with may look like the start of a pickle.
        with path.open("rb") as file:
            head = file.read(2)
        if head == b"PK" or head[:1] == b"\x80":
            raise ValueError(
                f"{path} is a pickle under a safetensors name, and will not be read; convert it to safetensors"
            ) from error
        raise ValueError(
            f"{path} ({path.stat().st_size} bytes) is truncated or no safetensors file ({error}); download it again"
        ) from error


def _tensors(files: Sequence[Path]) -> Iterator[tuple[Path, str, tuple[int, ...]]]:
    for path in files:
        with open_safetensors(path) as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                yield path, name, tuple(file.get_slice(name).get_shape())


def check_names(place: str, expected: set[str], found: set[str]) -> None:
    """ValueError that counts and names what is missing from `found` and what is too much."""
    problems = []
    for label, names in (("missing", expected - found), ("unexpected", found - expected)):
        if names:
            first = ", ".join(sorted(names)[:5])
            problems.append(f"{len(names)} {label} ({first}{', ...' if len(names) > 5 else ''})")
    if problems:
        raise ValueError(f"{place}: the tensors do not match the config: {'; '.join(problems)}")


def load_module(
    build: Callable[[], Module],
    files: Sequence[Path],
    *,
    dtype: torch.dtype,
    device: torch.device,
    rename: Callable[[str], str] = lambda name: name,
) -> Module:
    """Build a module without memory for its weights and fill it from `files`, in `dtype` on `device`.

    `rename` turns a name in the file into the module's. Raises ValueError naming every missing, unexpected or
    misshaped tensor, before any tensor is read.
    """
    with torch.device("meta"):
        module = build()
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    place = str(files[0].parent)
    found: dict[str, tuple[int, ...]] = {}
    for path, name, shape in _tensors(files):
        if rename(name) in found:
            raise ValueError(f"{path}: tensor {name!r} is there twice (as {rename(name)!r})")
        found[rename(name)] = shape
    check_names(place, set(shapes), set(found))
    wrong = [f"{name} is {found[name]}, expected {shape}" for name, shape in shapes.items() if found[name] != shape]
    if wrong:
        raise ValueError(f"{place}: {len(wrong)} misshaped: {'; '.join(wrong[:5])}{'; ...' if len(wrong) > 5 else ''}")
    state: dict[str, torch.Tensor] = {}
    for path in files:
        with open_safetensors(path) as file:
            for name in file.keys():  # noqa: SIM118
                state[rename(name)] = file.get_tensor(name).to(device=device, dtype=dtype)
    module.load_state_dict(state, assign=True)
    return module.requires_grad_(False).eval()
