"""The computations of the tests of parallel sampling, run in one process or in several."""

import gc
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import torch
import torch.distributed as dist
import transformers
from torch import Tensor, nn

from sadaflow import SADA, GuidedDenoiser, Parallel, Pipeline, Stats, sample
from sadaflow.accelerators import Combined, FirstBlock, TaylorSeer, TeaCache, Uniform
from sadaflow.models import FluxTransformer, Site, call_through
from sadaflow.parallel.context import ContextSeam
from sadaflow.solvers import Grid, RectifiedFlow, make_solver
from support.networks import small_flux, small_unet

_ = transformers.CLIPTextModel, transformers.CLIPTokenizer, transformers.T5EncoderModel  # loaded lazily, once for all

STEPS = 14
WEIGHTS = (2.0, 0.0, 0.0)  # which leave SADA some steps that are not stable
ACCELERATORS: Mapping[str, Any] = {
    "none": None,
    "sada": "sada",
    "auto": "auto",
    "uniform": "uniform",
    "tokens": SADA(token_trunk=True, token_limit=9, weights=WEIGHTS),
    "teacache": TeaCache(threshold=0.5, coefficients=(1.0, 0.0)),
    "first-block": FirstBlock(threshold=0.5),
    "first-block-back": FirstBlock(threshold=0.5, front=2, back=1, max_skips=2),
    "taylorseer": TaylorSeer(),
    "uniform+first-block": Combined(Uniform(), FirstBlock(threshold=0.5)),
    "guidance": "guidance",
    "deepcache": "deepcache",
}


class Result(TypedDict):
    x: Tensor
    modes: list[list[str]]
    nfe: list[float]


def result(x: Tensor, stats: Stats) -> Result:
    return {"x": x, "modes": stats.modes, "nfe": stats.nfe}


def run(
    net: nn.Module,
    accelerator: Any,
    parallel: Parallel | None = None,
    guided: bool = True,
    size: tuple[int, int] = (10, 6),
) -> Result:
    """Two samples of `net`, whose 15 tokens and 5 tokens of text are no multiple of any number of processes."""
    generator = torch.Generator().manual_seed(2)

    def drawn(*shape: int) -> Tensor:
        rows = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
        return rows * torch.tensor([0.3, 3.0]).view(-1, *(1,) * len(shape))

    pooled = isinstance(net, FluxTransformer)
    negative, conditional = ({"context": drawn(5, 12), **({"pooled": drawn(10)} if pooled else {})} for _ in range(2))
    times = torch.linspace(0.98, 0.0, STEPS + 1, dtype=torch.float64)
    solver = make_solver("euler", Grid.from_t(RectifiedFlow(), times))
    backbone: Any = net
    denoise = GuidedDenoiser(
        backbone, solver.nodes, "flow", conditional, negative if guided else None, 2.0, torch.float64
    )
    noise = torch.randn(2, 2, *size, generator=generator, dtype=torch.float64)
    denoise = denoise if parallel is None else parallel.denoiser(denoise)
    made = sample(solver, denoise, noise, accelerator)
    return result(made.x, made.stats)


def pictures(pipe: Pipeline, parallel: Parallel | None, seed: int = 0) -> Result:
    call: dict[str, Any] = {"steps": STEPS, "accelerator": "sada", "seed": seed, "output": "latent", "progress": False}
    made = pipe(["red apple", "grinning face"], parallel=parallel, **call)
    return result(made.latents, made.stats)


def message(call: Callable[[], Any]) -> str:
    """The ValueError that it ends with."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return ""


def shares(parallel: Parallel, net: nn.Module) -> list[tuple[str, int]]:
    """Kind and tokens of each site of one evaluation, as this process's part of the network has them."""
    assert parallel.context is not None
    seen: list[tuple[str, int]] = []

    class Watching(ContextSeam):
        def __call__(self, site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            def watched(own: Tensor, *given: Tensor | None) -> Tensor:
                seen.append((site.kind, own.shape[1]))
                return fn(own, *given)

            return super().__call__(site, watched, hidden, *args)

    inputs = {"context": torch.zeros(1, 5, 12).double(), "pooled": torch.zeros(1, 10).double()}
    net(torch.zeros(1, 2, 10, 6).double(), 500.0, **inputs, seam=Watching(parallel.context, call_through))
    return seen


def of_guidance(parallel: Parallel, rank: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    net, convolutions = small_flux(single=2), small_unet()
    for name in ("none", "sada", "auto", "tokens", "taylorseer"):
        made[f"flux {name}"] = run(net, ACCELERATORS[name], parallel)
    for name in ("none", "uniform", "tokens", "deepcache", "taylorseer", "guidance"):
        made[f"unet {name}"] = run(convolutions, ACCELERATORS[name], parallel, size=(8, 6))
    for name in ("teacache", "first-block", "uniform+first-block"):
        made[f"refused {name}"] = message(lambda name=name: run(net, ACCELERATORS[name], parallel))
    made["refused alone"] = message(lambda: run(net, None, parallel, guided=False))
    pipe = Pipeline.from_pretrained()
    made["tiny-sd"] = pictures(pipe, parallel)
    made["refused seed"] = message(lambda: pictures(pipe, parallel, seed=rank))
    made["refused prompt"] = message(lambda: pipe(f"apple {rank}", steps=4 + rank, parallel=parallel))
    return made


def of_context(parallel: Parallel, rank: int) -> dict[str, Any]:
    net = small_flux(single=2)
    fitting = ("none", "sada", "auto", "tokens", "teacache", "first-block-back", "taylorseer", "guidance")
    made: dict[str, Any] = {f"flux {name}": run(net, ACCELERATORS[name], parallel) for name in fitting}
    made["alone"] = run(net, None, parallel, guided=False, size=(8, 6))
    made["shares"] = shares(parallel, net)
    made["refused unet"] = message(lambda: run(small_unet(), None, parallel, size=(8, 6)))
    made["refused few"] = message(lambda: run(net, None, parallel, size=(2, 2)))
    made["tiny-flux"] = pictures(Pipeline.from_pretrained("tiny-flux"), parallel)
    return made


def of_both(parallel: Parallel, rank: int) -> dict[str, Any]:
    net = small_flux(single=2)
    return {f"flux {name}": run(net, ACCELERATORS[name], parallel) for name in ("tokens", "guidance")}


def of_four(parallel: Parallel, rank: int) -> dict[str, Any]:
    net = small_flux(single=2)
    return {f"flux {name}": run(net, ACCELERATORS[name], parallel) for name in ("tokens", "first-block")}


WORK = {
    (2, 1): of_guidance,
    (1, 2): of_context,
    (2, 2): of_both,
    (1, 4): of_four,
}


def process(rank: int, guidance: int, context: int, folder: Path) -> None:
    """One of several; what it made is in the folder afterwards."""
    world = guidance * context
    dist.init_process_group("gloo", store=dist.FileStore(str(folder / "store"), world), rank=rank, world_size=world)
    unfit = message(lambda: Parallel.across(guidance=guidance, context=context + 1, device="cpu"))
    made = WORK[guidance, context](Parallel.across(guidance=guidance, context=context, device="cpu"), rank)
    torch.save({**made, "refused world": unfit}, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def forked(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def main(folder: Path) -> int:
    """All processes of all set-ups, forked so that they are imported for only once."""
    gc.freeze()  # else each of them passes over, and so copies, what was imported
    for guidance, context in WORK:
        own = folder / f"{guidance}x{context}"
        own.mkdir()
        children = [forked(partial(process, rank, guidance, context, own)) for rank in range(guidance * context)]
        if any([os.waitpid(child, 0)[1] for child in children]):
            return 1
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(Path(sys.argv[1])))
