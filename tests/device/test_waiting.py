"""A run waits for its device only where it reads numbers in order to decide.

On a CPU nothing waits, so the tests record the calls that would: reading a tensor on the host, indexing by lists or
masks (which transfers an index or a count), and copying Python numbers. Schedules compute in float64 on the host; the
networks and states here are float32 and represent tensors on a device.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import sadaflow
from sadaflow import SADA, GuidedDenoiser, sample
from sadaflow.accelerators import Accelerator, Combined, Uniform, make_accelerator
from sadaflow.accelerators.registry import ACCELERATORS
from sadaflow.device.readback import Readback
from sadaflow.solvers import Grid, RectifiedFlow, make_solver
from support.networks import small_flux, small_unet

PACKAGE, STEPS = Path(sadaflow.__file__).parent, 20
READS = {Tensor.tolist, Tensor.item, Tensor.cpu, Tensor.numpy, Tensor.nonzero, torch.nonzero, torch.masked_select}
READS |= {getattr(Tensor, f"__{name}__") for name in ("bool", "float", "int", "index")}
SENDS = {torch.tensor, torch.as_tensor, Tensor.new_tensor}


def chooses(index: Any) -> bool:
    if isinstance(index, tuple):
        return any(chooses(part) for part in index)
    return isinstance(index, list) or (isinstance(index, Tensor) and index.dtype == torch.bool)


class Watching(TorchFunctionMode):
    """Counts what waits, by the file and function of the package that does it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        reads = func in READS and args[0].dtype != torch.float64
        sends = func in SENDS and (kwargs.get("device") is not None or func is Tensor.new_tensor)
        if reads or sends or (func in (Tensor.__getitem__, Tensor.__setitem__) and chooses(args[1])):
            frame = sys._getframe(1)
            while frame.f_back is not None and PACKAGE not in Path(frame.f_code.co_filename).parents:
                frame = frame.f_back
            self.found[f"{Path(frame.f_code.co_filename).name} {frame.f_code.co_name}"] += 1
        return func(*args, **kwargs)


UNET_ONLY, FLUX_ONLY = {"deepcache"}, {"dbcache", "dicache", "first-block", "speca", "taylorseer", "teacache"}
PRUNING = SADA(token_trunk=True, multistep_start=0.9, weights=(4.0, 0.0, 0.0))  # hardly ever stable
CASES = [
    ("flux" if flux else "unet", name, make_accelerator(name), 2)
    for name in ACCELERATORS
    for flux in (False, True)
    if name not in (UNET_ONLY if flux else FLUX_ONLY)
]
CASES += [(kind, "none", None, 1) for kind in ("unet", "flux")]
CASES += [(kind, "pruning", PRUNING, 3) for kind in ("unet", "flux")]
CASES += [("unet", "combined", Combined(Uniform(2), make_accelerator("guidance")), 1)]


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    return {"unet": small_unet().float(), "flux": small_flux(single=3).float()}


@pytest.mark.parametrize(("kind", "name", "accelerator", "most"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_a_step_waits_for_its_decision_alone(
    kind: str, name: str, accelerator: Accelerator | None, most: int, networks: dict[str, nn.Module]
) -> None:
    """`most` numbers are read in a step: whether x0 is finite, what decides, and for pruning how many tokens remain."""
    generator = torch.Generator().manual_seed(4)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(2, *shape, generator=generator) * torch.tensor([0.3, 3.0]).view(-1, *(1,) * len(shape))

    def branch() -> dict[str, Tensor]:
        return {"context": drawn(5, 12), **({"pooled": drawn(10)} if kind == "flux" else {})}

    solver = make_solver("dpmpp2m", Grid.from_t(RectifiedFlow(), torch.linspace(1, 0, STEPS + 1, dtype=torch.float64)))
    denoise = GuidedDenoiser(networks[kind], solver.nodes, "flow", branch(), branch(), 2.0, torch.float32)
    with Watching() as watching:
        modes = sample(solver, denoise, drawn(2, 8, 8), accelerator).stats.modes
    found = watching.found
    reads = found.pop("readback.py read")
    found.pop("indexing.py sent", None)  # from pinned memory
    assert not found
    assert STEPS <= reads <= most * STEPS + 1  # the last states are checked at the end
    if name == "pruning":
        assert "tokens" in {mode for sample in modes for mode in sample}


def test_what_is_watched_for_is_seen() -> None:
    x = torch.ones(3)
    with Watching() as watching:
        assert x[[0]].item() == 1 and bool(x[x > 0].all())
        Readback(x).read()
    assert sum(watching.found.values()) == 5 and watching.found["readback.py read"] == 1
