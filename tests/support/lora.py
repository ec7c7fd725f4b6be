"""Layers of a small U-Net, LoRA factors for them, and what adapters change."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

_BEFORE: WeakKeyDictionary[Any, dict[str, Tensor]] = WeakKeyDictionary()  # weights of unchanged pipelines
RANK, SCALE = 3, 0.7
ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
QUERY, OUT, CONV = f"{ATTENTION}.to_q", f"{ATTENTION}.to_out.0", "up_blocks.1.resnets.2.conv1"


def factors(shape: torch.Size, seed: int) -> tuple[Tensor, Tensor]:
    """Up and down for a layer of this shape; a convolution's down has its kernel."""
    generator = torch.Generator().manual_seed(seed)
    ones = (1,) * (len(shape) - 2)
    return torch.randn((shape[0], RANK, *ones), generator=generator), torch.randn(
        (RANK, *shape[1:]), generator=generator
    )


def snapshot(pipe: Any) -> dict[str, Tensor]:
    """A copy of all weights that adapters may change, by component and name."""
    return {name: tensor.clone() for name, tensor in _weights(pipe)}


def merged(pipe: Any, path: Path, scale: float = 1.0, **how: Any) -> dict[str, Tensor]:
    """The weights that an adapter changes, with it; afterwards it is unloaded, which must give the same bits."""
    before = _BEFORE.setdefault(pipe, snapshot(pipe) if pipe not in _BEFORE else {})
    handle = pipe.load_lora(path, scale, **how)
    changed = {name: x.clone() for name, x in _weights(pipe) if not torch.equal(x, before[name])}
    pipe.unload_lora(handle)
    assert all(torch.equal(tensor, before[name]) for name, tensor in _weights(pipe))
    return changed


def _weights(pipe: Any) -> Iterator[tuple[str, Tensor]]:
    for part, module in pipe.family.adaptable.items():
        yield from ((f"{part}.{name}", tensor) for name, tensor in module.state_dict().items())


def compare(found: dict[str, Tensor], expected: dict[str, Tensor], bound: float = 1e-5) -> float:
    """The largest relative difference of changed weights; the same ones must be changed.

    It is written into the file that SADAFLOW_ADAPTER_DIFFERENCES names, for the table in docs/loading.md.
    """
    assert found.keys() == expected.keys()
    worst = max(float((found[name] - tensor).abs().max() / tensor.abs().max()) for name, tensor in expected.items())
    if (record := os.environ.get("SADAFLOW_ADAPTER_DIFFERENCES")) is not None:
        with Path(record).open("a", encoding="utf-8") as file:
            file.write(f"{worst:.1e} {os.environ['PYTEST_CURRENT_TEST']}\n")
    assert worst < bound
    return worst
