"""Counts kernel launches and host reads per step of the sampling loop, without a GPU, on a simulated device.

    python -m sadaflow.bench.gpu.launches

prints the table of docs/performance.md.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from sadaflow.models import FluxConfig, FluxTransformer, Seam, UNet, UNetConfig, call_through
from sadaflow.solvers import Grid, RectifiedFlow, Solver, make_solver

from ...accelerators import SADA, Accelerator
from ...accelerators.registry import ACCELERATORS, make_accelerator
from ...device.simulated import Simulated, move, moved, shown, uncounted
from ...sampling.denoiser import GuidedDenoiser
from ...sampling.loop import sample
from ...sampling.results import Step

STEPS = 20
BATCHES = (1, 4, 16, 64, 256)
NONE, PRUNING, COMBINED = "none", "sada, pruning", "uniform+guidance"
_UNET_ONLY, _FLUX_ONLY = ("deepcache",), ("dbcache", "dicache", "first-block", "speca", "taylorseer", "teacache")


@dataclass(frozen=True)
class Launches:
    """Counts per step of a run, up to the end of the last step.

    Attributes:
        launches: Kernel launches, mean.
        most_launches: Most in a step.
        reads: Waits of the host for the device, mean.
        most_reads: Most in a step.
        fetches: Copies to the host, mean; most have arrived when they are read.
        sends: Copies from the host, mean; they do not wait.
    """

    launches: float
    most_launches: int
    reads: float
    most_reads: int
    fetches: float
    sends: float


def cases() -> list[tuple[str, str]]:
    """Returns the pairs of network ("unet", "flux") and accelerator that can be counted."""
    found = [("unet", NONE), ("flux", NONE)]
    for name in (*ACCELERATORS, PRUNING, COMBINED):
        found += [("unet", name)] if name not in _FLUX_ONLY else []
        found += [("flux", name)] if name not in _UNET_ONLY else []
    return found


def accelerator_named(name: str) -> Accelerator | None:
    """Returns the accelerator of a row of the table. `PRUNING` is SADA with settings that prune tokens often."""
    if name == NONE:
        return None
    if name == PRUNING:
        return SADA(token_trunk=True, multistep_start=0.9, weights=(4.0, 0.0, 0.0))
    return make_accelerator(name)


def measure(kind: str, name: str, batch: int, *, network: bool = False, alike: bool = False) -> Launches:
    """Counts what an accelerator launches for random states on a small network.

    The states differ in magnitude, so that samples are decided at different steps.

    Args:
        kind: "unet" or "flux".
        name: The accelerator, see `accelerator_named`.
        batch: Number of samples.
        network: Count the layers of the network too, not only accelerator, solver and loop.
        alike: All samples are copies of one, and so decided alike.

    Raises:
        ValueError: If an operation mixes tensors of the device and of the host.
    """
    counter = Simulated()
    backbone = move(small_network(kind)) if network else _Apart(_shared_network(kind), counter)
    seen: list[Counter[str]] = []

    def observe(step: Step) -> None:
        seen.append(counter.counts.copy())

    with counter:
        solver, denoise, noise = problem(kind, batch, backbone, moved, alike=alike)
        seen.append(counter.counts.copy())  # computed once per prompt, not per step
        sample(solver, denoise, noise, accelerator_named(name), observer=observe)
    steps = [after - before for before, after in zip(seen, seen[1:], strict=False)]
    launches, reads = ([step[kind] for step in steps] for kind in ("launch", "read"))
    fetches, sends = (mean(step[kind] for step in steps) for kind in ("fetch", "send"))
    return Launches(mean(launches), max(launches), mean(reads), max(reads), fetches, sends)


def problem(
    kind: str, batch: int, backbone: Any, place: Callable[[Tensor], Tensor], *, alike: bool = False
) -> tuple[Solver, GuidedDenoiser, Tensor]:
    """Returns solver, denoiser and noise of samples that differ in magnitude, or are copies of one if `alike`.

    `place` puts tensors on a device.
    """
    solver = make_solver("dpmpp2m", Grid.from_t(RectifiedFlow(), torch.linspace(1, 0, STEPS + 1, dtype=torch.float64)))
    generator = torch.Generator().manual_seed(4)
    widths = {"context": (5, 12), **({"pooled": (10,)} if kind == "flux" else {})}

    def drawn(*shape: int) -> Tensor:
        made = _drawn(generator, batch, *shape)
        return place(made[:1].repeat(batch, *[1] * len(shape)) if alike else made)

    branches = [{name: drawn(*shape) for name, shape in widths.items()} for _ in range(2)]
    noise = drawn(2, 8, 8)
    denoise = GuidedDenoiser(backbone, solver.nodes, "flow", branches[0], branches[1], 2.0, torch.float32)
    return solver, denoise, noise


class _Apart:
    """A backbone that computes on the host, uncounted, and passes tensors of the device to the seam."""

    def __init__(self, network: Any, counter: Simulated) -> None:
        self._network, self._counter = network, counter

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        raise NotImplementedError("a prepared backbone is evaluated in three parts")

    def prepare(self, **conditioning: Tensor) -> Mapping[str, Tensor]:
        made: Mapping[str, Tensor] = uncounted(self._network.prepare)(**conditioning)
        return made

    def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        made: Tensor = uncounted(self._network.prepare_times)(timesteps, given)
        return made

    def evaluate(self, x: Tensor, time: Tensor, given: Mapping[str, Tensor], seam: Seam, **settings: Any) -> Tensor:
        inner = call_through if seam is call_through else shown(seam, self._counter)
        made: Tensor = uncounted(self._network.evaluate)(x, time, given, inner, **settings)
        return made


def small_network(kind: str) -> Any:
    """Builds a network of a few layers: "unet" or "flux"."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = _small_unet() if kind == "unet" else _small_flux()
    return network.requires_grad_(False).eval()


_shared_network = cache(small_network)


def _small_unet() -> UNet:
    config = {
        "sample_size": 8,
        "in_channels": 2,
        "out_channels": 2,
        "block_out_channels": [8, 16],
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "layers_per_block": 1,
        "cross_attention_dim": 12,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    return UNet(UNetConfig.from_dict(config))


def _small_flux() -> FluxTransformer:
    widths: dict[str, Any] = {"in_channels": 8, "joint_attention_dim": 12, "pooled_projection_dim": 10}
    heads: dict[str, Any] = {"attention_head_dim": 16, "num_attention_heads": 2, "axes_dims_rope": (4, 6, 6)}
    return FluxTransformer(FluxConfig(num_layers=2, num_single_layers=2, **heads, **widths))


def _drawn(generator: torch.Generator, batch: int, *shape: int) -> Tensor:
    sizes = torch.tensor([0.3, 3.0, 1.0, 0.1]).repeat(-(-batch // 4))[:batch]
    return torch.randn(batch, *shape, generator=generator) * sizes.view(-1, *(1,) * len(shape))


def table() -> Iterator[str]:
    """Yields the lines of the Markdown table: launches per step at each batch size, waits and copies."""
    columns = " | ".join(f"launches, batch {batch}" for batch in BATCHES)
    yield f"| network, accelerator | {columns} | waits, mean | waits, most | to the host | from the host |"
    yield f"|---{'|---' * (len(BATCHES) + 4)}|"
    for kind, name in cases():
        found = [measure(kind, name, batch) for batch in BATCHES]
        counts = " | ".join(f"{one.launches:.1f}" for one in found)
        reads = f"{max(one.reads for one in found):.2f} | {max(one.most_reads for one in found)}"
        copies = f"{max(one.fetches for one in found):.1f} | {max(one.sends for one in found):.1f}"
        yield f"| {kind}, `{name}` | {counts} | {reads} | {copies} |"


if __name__ == "__main__":
    for line in table():
        print(line, flush=True)
