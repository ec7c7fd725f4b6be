"""Laws on tensors: batches, shapes, dtypes, gradients, reads by the host, and compilation."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..base import Solver, State
from .examination import SAMPLES, Examination, parts
from .guard import advance, evaluations, follow
from .problems import Denoise, Independent, final_x, independent, mixture, normal, unit_noise
from .report import Law


def batches(examination: Examination, name: str) -> Iterator[Law]:
    """Checks that a sample is the same in batches of 1, 2, 9 and 33, and in any order."""
    noise, data, grid = normal(33, 6), independent(6, reach=6.0), examination.grids[name](8)
    whole = _run(examination.make(grid, 33), data, noise)
    for count in (1, 2, 9):
        some = _run(examination.make(grid, count), data, noise[:count])
        off = float((some - whole[:count]).abs().max())
        yield Law("batch invariance", f"[{name}, {count} of 33]", f"off by {off:.1e}", "below 1e-12", off < 1e-12)
    if not examination.stochastic:
        turned = _run(examination.make(grid, 33), data, noise.flip(0)).flip(0)
        off = float((turned - whole).abs().max())
        yield Law("batch invariance", f"[{name}, reversed]", f"off by {off:.1e}", "below 1e-12", off < 1e-12)


def _run(solver: Solver, data: Independent, noise: Tensor) -> Tensor:
    return final_x(solver, data.denoiser(solver), noise)


def shapes(examination: Examination, name: str) -> Iterator[Law]:
    """Checks that states of any number of dimensions and channels move as vectors do."""
    grid, whole = examination.grids[name](8), independent(24, reach=6.0)
    flat = None
    for shape in ((24,), (6, 4), (4, 2, 3), (3, 4, 2), (3, 2, 2, 2), (12, 1, 1, 2)):
        data = Independent(whole.mean.reshape(shape), whole.std.reshape(shape))
        noise = normal(2, 24, seed=4).reshape(2, *shape)
        solver = examination.make(grid, _Plain())
        x = final_x(solver, data.denoiser(solver), noise)
        if x.shape != noise.shape:
            yield Law("shapes", f"[{name}, {tuple(noise.shape)}]", f"x of {tuple(x.shape)}", "the shape of x", False)
            continue
        flat = x if flat is None else flat
        off = float((x.flatten() - flat.flatten()).abs().max())
        yield Law("shapes", f"[{name}, {tuple(noise.shape)}]", f"off by {off:.1e}", "as vectors", off < 1e-12)


class _Plain:
    """Noise that is a function of the index alone: the same numbers in any shape, by operations that can be traced."""

    def __call__(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        wave = torch.arange(like.numel(), dtype=torch.float64, device=like.device) * 1.7 + index
        return (wave.sin() * 2**0.5).reshape(like.shape).to(like.dtype)


def dtypes(examination: Examination, name: str) -> Iterator[Law]:
    """Checks that states keep the dtype and device of the noise, and lose no more than its rounding."""
    data = independent(24)
    grid, noise = examination.grids[name](12), normal(SAMPLES, 24, seed=3)
    exact = final_x(solver := examination.make(grid), data.denoiser(solver), noise)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
            solver, kept = examination.make(grid), True
            state = solver.start(noise.to(device, dtype))
            for before, _, after in follow(solver, state, _rounded(data.denoiser(solver))):
                kept &= all(part.dtype == dtype and part.device.type == device for part in parts(before) + parts(after))
                state = after
            kept &= solver.velocity(before.x, after.x, before.step).dtype == dtype
            off = float((state.x.double().cpu() - exact).abs().max() / exact.abs().max())
            bound = examination.allowed("dtype", 60.0) * torch.finfo(dtype).eps
            shown = f"{'kept' if kept else 'changed'}, off by {off:.1e}"
            yield Law("dtype", f"[{dtype}, {device}]", shown, f"kept, below {bound:.1e}", kept and off < bound)


def _rounded(denoise: Denoise) -> Denoise:
    """A denoiser that computes x0 in float64 and rounds it once, so that only the solver loses digits."""
    return lambda x, step: denoise(x.double(), step).to(x.dtype)


def gradients(examination: Examination, name: str) -> Iterator[Law]:
    """Checks the gradients of a whole run, through past outputs, against finite differences."""
    solver = examination.make(examination.grids[name](4), 1)
    count = evaluations(solver)
    x0 = tuple(normal(1, 2, seed=step + 1).requires_grad_() for step in range(count))

    def run(noise: Tensor, *outputs: Tensor) -> Tensor:
        state = solver.start(noise)
        for output in outputs:
            state = advance(solver, state, output)
        return state.x

    def slope(x: Tensor, output: Tensor) -> Tensor:
        return solver.velocity(x, output, count - 1)

    noise = normal(1, 2).requires_grad_()
    for function, inputs, what in ((run, (noise, *x0), "run"), (slope, (noise, x0[0]), "velocity")):
        try:
            good = bool(torch.autograd.gradcheck(function, inputs, raise_exception=False))
        except RuntimeError:  # nothing requires a gradient
            good = False
        shown = "agree" if good else "missing or wrong"
        yield Law("gradients", f"[{name}, {what}]", shown, "finite differences", good)


def host_reads(examination: Examination, name: str) -> Iterator[Law]:
    """Checks that `step` and `velocity` read no value of a tensor: on a GPU each read waits for all queued work."""
    solver, noise = examination.make(examination.grids[name](6), _Plain()), unit_noise(SAMPLES)
    final_x(solver, mixture().denoiser(solver), noise)  # the first run may compute what later ones keep
    shown = _without_values(solver, noise)
    yield Law("host reads", f"[{name}]", shown or "none", "a run on tensors without values", not shown)


def _without_values(solver: Solver, noise: Tensor) -> str:
    """Runs on tensors without values; returns what it failed with."""
    empty = torch.empty_like(noise, device="meta")
    try:
        state = solver.start(empty)
        for _ in range(evaluations(solver)):
            solver.velocity(state.x, empty, state.step)
            state = solver.step(state, empty)
    except Exception as problem:
        return f"{type(problem).__name__}: {' '.join(str(problem).split())[:120]}"
    moved = next((part.device for part in parts(state) if part.device.type != "meta"), None)
    return "" if moved is None else f"a tensor moved from device meta to {moved}"


def compiles(examination: Examination, name: str) -> Iterator[Law]:
    """Checks that torch.compile takes a step as one graph, with the same result."""
    solver = examination.make(examination.grids[name](6), _Plain())
    steps = list(follow(solver, solver.start(unit_noise(SAMPLES)), mixture().denoiser(solver)))
    state, x0, after = steps[len(steps) // 2]

    def step(x: Tensor, anchor: Tensor | None, output: Tensor, *history: Tensor) -> Tensor:
        return solver.step(State(x, state.step, history, anchor), output).x

    torch._dynamo.reset()
    compiled = torch.compile(step, backend="eager", fullgraph=True, dynamic=False)
    try:
        off = float((compiled(state.x, state.anchor, x0, *state.history) - after.x).abs().max())
    except Exception as problem:
        shown = f"{type(problem).__name__}: {' '.join(str(problem).split())[:160]}"
        yield Law("compile", f"[{name}]", shown, "one graph", False)
        return
    yield Law("compile", f"[{name}]", f"one graph, off by {off:.1e}", "one graph, the same x", off < 1e-12)
