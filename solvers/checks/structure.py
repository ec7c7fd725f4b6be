"""Laws on the nodes of a solver, the timesteps that the network gets there, and the memory of its states."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..grid import Grid, Node
from .examination import SAMPLES, Examination, data_x0, end_of, parts
from .guard import evaluations, follow
from .problems import mixture, unit_noise
from .report import Law


def nodes(examination: Examination, name: str) -> Iterator[Law]:
    """Checks that alpha and sigma of the nodes are those of the schedule."""
    grid = examination.grids[name](6)
    solver, schedule = examination.make(grid), grid.schedule
    t = torch.tensor([node.t for node in solver.nodes], dtype=torch.float64)
    alpha, sigma = (
        torch.tensor([getattr(node, key) for node in solver.nodes], dtype=torch.float64) for key in ("alpha", "sigma")
    )
    off = max(float((schedule.alpha(t) - alpha).abs().max()), float((schedule.sigma(t) - sigma).abs().max()))
    yield Law("nodes on schedule", f"[{name}]", f"off by {off:.1e}", "0", off < 1e-9)


def counts(examination: Examination, name: str) -> Iterator[Law]:
    """Checks that a run takes as many evaluations as there are nodes."""
    solver = examination.make(examination.grids[name](6))
    count = evaluations(solver)
    made = sum(1 for _ in follow(solver, solver.start(unit_noise(SAMPLES)), mixture().denoiser(solver)))
    yield Law("evaluations", f"[{name}]", f"{made}, n_evals {count}", f"{len(solver.nodes)} nodes",
              made == count == len(solver.nodes))  # fmt: skip


def start(examination: Examination, name: str) -> Iterator[Law]:
    """Checks that a run starts at the grid's `start_scale` times the noise."""
    grid, noise = examination.grids[name](6), unit_noise(SAMPLES)
    scaled = Grid.from_t(grid.schedule, grid.t, grid.timestep, 1.7 * grid.start_scale, grid.between)
    for each in (grid, scaled):
        state = examination.make(each).start(noise)
        off = float((state.x - each.start_scale * noise).abs().max())
        good = off < 1e-12 and state.step == 0
        yield Law("start", f"[{name}]", f"off by {off:.1e}", "start_scale times noise", good)


def timesteps(examination: Examination, name: str) -> Iterator[Law]:
    """Checks the timestep of every node: the grid's at its points, and the grid's rule between them."""
    plain = examination.grids[name](6)

    def rule(t: float) -> float:
        return 3 * t + 7

    own = [rule(t) for t in plain.t[:-1].tolist()]
    foreign = Grid.from_t(plain.schedule, plain.t, own, plain.start_scale, rule)
    rounded = Grid.from_t(plain.schedule, plain.t, plain.timestep + 1e-7, plain.start_scale, plain.between)
    for grid, kind in ((plain, "schedule's"), (foreign, "grid's own"), (rounded, "rounded")):
        wrong = _wrong_timestep(grid, examination.make(grid).nodes)
        where = f"[{name}, {kind}]"
        yield Law("timesteps", where, wrong or "all right", "the grid's at its points, its rule between", not wrong)


def _wrong_timestep(grid: Grid, nodes: Sequence[Node]) -> str:
    """Describes the first node whose timestep is not the grid's at a grid point, or its rule's between them."""
    served = set()
    for step, node in enumerate(nodes):
        near = int((grid.t[:-1] - node.t).abs().argmin())
        own = float(grid.timestep[near]) if abs(float(grid.t[near]) - node.t) < 1e-9 * (1 + abs(node.t)) else None
        if own is not None and _close(node.timestep, own):
            served.add(near)
        elif not _close(node.timestep, right := grid.node(node).timestep):
            return f"node {step} has {node.timestep:.8g}, not {right if own is None else own:.8g}"
    missing = sorted(set(range(grid.n_steps)) - served)
    return f"no node has the grid's timestep at points {missing}" if missing else ""


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-8 * (1 + abs(b))


class _Count(TorchDispatchMode):
    """Counts the tensor operations of a step."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += 1
        return func(*args, **(kwargs or {}))


def memory(examination: Examination, name: str) -> Iterator[Law]:
    """Checks that neither the tensors of a state nor the operations of a step grow with the number of steps."""
    sizes, work = [], []
    for steps in (24, 72):
        solver = examination.make(examination.grids[name](steps))
        end_of(solver, unit_noise(SAMPLES))  # the first run may compute what later ones keep
        state, size, operations = solver.start(unit_noise(SAMPLES)), 0.0, 0
        for _ in range(evaluations(solver)):
            x0 = data_x0(solver, state)
            with _Count() as counter:
                state = solver.step(state, x0)
            operations = max(operations, counter.count)
            size = max(size, sum(part.numel() for part in parts(state)) / state.x.numel())
        sizes.append(size)
        work.append(operations)
    kept = sizes[1] <= sizes[0] and sizes[0] <= 16
    yield Law("memory", f"[{name}]", f"{sizes[0]:g} and {sizes[1]:g} times x", "the same for 24 and 72 steps", kept)
    yield Law("work", f"[{name}]", f"{work[0]} and {work[1]} operations", "the same for 24 and 72 steps",
              work[1] <= work[0] * 1.5 + 8)  # fmt: skip
