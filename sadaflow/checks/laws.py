"""The laws that an accelerator is examined by, each measured on exact denoisers."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor

from sadaflow.sampling.loop import sample
from sadaflow.sampling.results import Sampled, Step
from sadaflow.solvers import Grid, GridSolver, SeededNoise, Solver, draws_noise, make_solver
from sadaflow.solvers.checks.problems import GRIDS, clean
from sadaflow.solvers.checks.report import Law

from ..accelerators.base import Accelerator, Mode, Run
from .problems import NETWORKS, PLAIN, Modes, Plain, Seamed, Work
from .recording import Watched, drawn_state, seeded

Factory = Callable[[], Accelerator]

BASE: Final = ("euler", "dpmpp2m")
"""Solvers of one evaluation a step, which all laws but those on solvers are measured with."""
SAMPLES: Final = 4
SHAPE: Final = (2, 6, 6)
_TOLERANCE: Final = 1e-8  # between a sample alone and in a batch, whose sums round differently
SHAPES: Final = ((1, 2, 5, 8), (3, 2, 6, 6), (2, 7))


def solver_of(name: str, steps: int, grid: str = "flow-uniform", samples: int = SAMPLES) -> Solver:
    noise = {"noise": SeededNoise(tuple(range(samples)))} if draws_noise(name) else {}
    return make_solver(name, clean(GRIDS[grid](steps)), **noise)


@dataclass(frozen=True)
class Outcome:
    """One run and what it was seen to do."""

    sampled: Sampled
    notes: Watched
    denoiser: Plain | Seamed
    seeds_used: bool

    @property
    def modes(self) -> list[list[str]]:
        return self.sampled.stats.modes

    @property
    def first_departure(self) -> int:
        """The first step at which a sample is not evaluated in full; the number of steps if there is none."""
        steps = [[mode == Mode.FULL for mode in modes] for modes in zip(*self.modes, strict=True)]
        return next((index for index, full in enumerate(steps) if not all(full)), len(steps))


@dataclass(frozen=True)
class Examination:
    """The laws, one method each, on accelerators made by `factory`, in the networks that these do not refuse."""

    factory: Factory
    steps: int
    worst: float
    _made: dict[tuple[str, str, bool], Outcome] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def refusals(self) -> dict[str, str | None]:
        """Why each kind of network is not taken: a ValueError by the end of the first evaluation; None where it is."""
        return {network: self._refusal(network=network) for network in NETWORKS}

    @property
    def networks(self) -> list[str]:
        return [network for network, reason in self.refusals.items() if reason is None]

    def _refusal(self, **settings: Any) -> str | None:
        steps: list[Step] = []
        try:
            self.run(observer=steps.append, **settings)
        except Exception as failure:  # any other is for the laws to find
            return str(failure) if isinstance(failure, ValueError) and not steps else None
        return None

    def enters(self) -> list[Law]:
        """Every kind of network is sampled, or refused before the second evaluation; one at least is sampled."""
        expected = "sampled, or refused at once"
        laws = [
            Law("networks", f"[{network}]", "sampled" if reason is None else f"refused: {reason}", expected, True)
            for network, reason in self.refusals.items()
        ]
        return [*laws, Law("networks", "[all]", f"{len(self.networks)} sampled", "one or more", bool(self.networks))]

    def run(
        self,
        accelerator: Accelerator | None = None,
        *,
        network: str | None = None,
        rows: Sequence[int] = tuple(range(SAMPLES)),
        shape: Sequence[int] = SHAPE,
        solver: Solver | str = BASE[-1],
        dtype: torch.dtype = torch.float64,
        seed: int = 0,
        memory: bool = False,
        observer: Callable[[Step], None] | None = None,
    ) -> Outcome:
        """Sample the exact problem; samples are told by `rows`, whatever batch they are in."""
        solver = solver_of(solver, self.steps) if isinstance(solver, str) else solver
        count = max(rows) + 1
        data = Modes.drawn(count, shape).of(rows)
        noise = torch.stack([_noise(row, shape) for row in rows]).to(dtype)
        network = self.networks[0] if network is None else network
        denoise = Plain(solver, data) if network == PLAIN else Seamed(solver, data, network)
        with seeded(seed):
            notes = Watched(self.factory() if accelerator is None else accelerator, memory)
            before = drawn_state()
            sampled = sample(solver, denoise, noise, cast(Accelerator, notes), observer=observer)
            return Outcome(sampled, notes, denoise, drawn_state() != before)

    def plain(self, solver: Solver | str, network: str | None = None) -> Outcome:
        return self.run(cast(Accelerator, _Never()), solver=solver, network=network)

    def made(self, name: str, network: str | None = None, plain: bool = False) -> Outcome:
        """The run of the accelerator, or plain sampling, that several laws look at; it is made once."""
        key = name, self.networks[0] if network is None else network, plain
        if key not in self._made:
            self._made[key] = self.plain(*key[:2]) if plain else self.run(solver=key[0], network=key[1])
        return self._made[key]

    def runs(self, name: str) -> Law:
        """A first run ends, with one mode for each sample at each step."""
        fast = self.made(name)
        finite = bool(torch.isfinite(fast.sampled.x).all())
        return Law("runs", f"[{name}]", "to the end" if finite else "not finite", "to a finite end", finite)

    def identity(self, name: str, network: str, never: Factory | None) -> list[Law]:
        """Up to the first step that is not evaluated in full, the trajectory is the plain one, bit for bit."""
        where = f"[{name}, {network}]"
        plain, fast = self.made(name, network, plain=True), self.made(name, network)
        last = fast.first_departure
        apart = [
            step
            for step in range(self.steps)
            if (step <= last and not torch.equal(fast.notes.entered[step], plain.notes.entered[step]))
            or (step < last and not torch.equal(fast.notes.left[step], plain.notes.entered[step]))
        ]
        equal = not apart and (last < self.steps or torch.equal(fast.sampled.x, plain.sampled.x))
        found = f"equal up to step {last}" if equal else f"x differs at step {apart[0] if apart else last}"
        laws = [Law("identity", where, found, "plain sampling until the first step saved", equal)]
        if never is not None:
            unspared = self.run(never(), solver=name, network=network)
            full = unspared.sampled.stats.nfe == [float(self.steps)] * SAMPLES
            same = torch.equal(unspared.sampled.x, plain.sampled.x)
            found = f"{'equal' if same else 'another x'}, NFE {max(unspared.sampled.stats.nfe):g}"
            laws.append(Law("identity", f"{where[:-1]}, never]", found, f"equal, NFE {self.steps}", full and same))
        return laws

    def batch(self, name: str, network: str) -> Law:
        """A sample alone, in a batch and in a batch of another order decides and ends the same."""
        together = self.made(name, network)
        worst, others = 0.0, []
        for rows in ([0], [SAMPLES - 1], list(reversed(range(SAMPLES)))):
            part = self.run(solver=name, network=network, rows=rows)
            others += [row for row, modes in zip(rows, part.modes, strict=True) if modes != together.modes[row]]
            worst = max(worst, float((part.sampled.x - together.sampled.x[rows]).abs().max()))
        found = f"samples {sorted(set(others))} decide otherwise" if others else f"{worst:.1e}"
        good = not others and worst < _TOLERANCE
        return Law("batch invariance", f"[{name}, {network}]", found, f"the same decisions, below {_TOLERANCE:g}", good)

    def determinism(self) -> Law:
        """Two runs are equal, whatever the global generators hold, and draw nothing from them."""
        first, second = self.run(seed=0), self.run(seed=1)
        equal = torch.equal(first.sampled.x, second.sampled.x) and first.modes == second.modes
        drew = first.seeds_used or second.seeds_used
        found = f"{'equal' if equal else 'another result'}{', drew from a global generator' if drew else ''}"
        return Law("determinism", "[two global seeds]", found, "equal, nothing drawn", equal and not drew)

    def state(self) -> Law:
        """One object serves runs of other shapes and lengths before, after and in the middle of a run."""
        alone, shared = self.made(BASE[-1]), self.factory()
        other = solver_of("euler", self.steps + 7)
        beside = self.run(solver=other, rows=(1,), shape=(1, 4, 5))

        def between(accelerator: Accelerator) -> Outcome:
            return self.run(accelerator, solver=other, rows=(1,), shape=(1, 4, 5))

        disturbed: list[Outcome] = []

        def interrupt(step: Step) -> None:
            if step.index == step.total // 2:
                disturbed.append(between(shared))

        before, interrupted = between(shared), self.run(shared, observer=interrupt)
        after = self.run(shared)
        pairs = [(interrupted, alone), (after, alone), *((one, beside) for one in (before, *disturbed))]
        good = all(a.modes == b.modes and torch.equal(a.sampled.x, b.sampled.x) for a, b in pairs)
        found = "equal" if good else "another result"
        return Law("state", "[one object, four runs]", found, "those of a new object", good)

    def solvers(self, name: str) -> list[Law]:
        """With every solver: refused before the first evaluation, or finite and not worse than a coarser grid."""
        solver, where = solver_of(name, self.steps), f"[{name}]"
        try:
            fast = self.run(solver=solver)
        except ValueError as refusal:
            try:
                self.factory().begin(solver, torch.Size((SAMPLES, *SHAPE)), seams=True)
            except ValueError:
                return [Law("solvers", where, f"refused: {refusal}", "finite, or refused at once", True)]
            return [Law("solvers", where, f"stopped midway: {refusal}", "finite, or refused at once", False)]
        finite = bool(torch.isfinite(fast.sampled.x).all())
        laws = [Law("solvers", where, "finite" if finite else "not finite", "finite, or refused at once", finite)]
        if draws_noise(name):
            return laws
        error = _rms(fast.sampled.x - _plain_end(name, self.steps, self.networks[0]))
        share = sum(fast.sampled.stats.nfe) / (SAMPLES * solver.n_evals)
        bound = self.worst * _coarse_error(max(1, round(share * self.steps)), self.steps, self.networks[0])
        expected = f"at most {bound:.1e}, {self.worst:g} x Euler's on as few steps"
        return [*laws, Law("accuracy", where, f"{error:.1e} at {share:.2f} of the cost", expected, error <= bound)]

    def accounting(self, name: str, network: str) -> list[Law]:
        """What `stats` says was evaluated is what the network was made to do."""
        fast, where = self.made(name, network), f"[{name}, {network}]"
        nfe = fast.sampled.stats.nfe
        if isinstance(fast.denoiser, Plain):
            calls = fast.denoiser.calls
            return [Law("accounting", where, f"{calls} calls", f"nfe {nfe}", nfe == [float(calls)] * SAMPLES)]
        work = fast.denoiser.work
        modes = {(step, row): mode for row, line in enumerate(fast.modes) for step, mode in enumerate(line)}

        def did(mode: Mode) -> list[Work]:
            return [one for one in work if modes[one.step, one.row] == mode]

        partly = {(one.step, one.row): one.share for one in [*did(Mode.CACHED), *did(Mode.CONDITIONAL)]}
        rows = [sum(partly.get((one.step, row), 1.0) for one in work if one.row == row) for row in range(SAMPLES)]
        full, tokens = did(Mode.FULL), [one.share for one in did(Mode.TOKENS)]
        parts, halves = [one.share for one in did(Mode.CACHED)], [one.share for one in did(Mode.CONDITIONAL)]
        shares = [one.share for one in full]
        altered = sum(not one.exact for one in full)
        same = all(abs(row - own) < _TOLERANCE for row, own in zip(rows, nfe, strict=True))
        return [
            Law("accounting", f"{where} rows", f"{_rounded(rows)}", f"nfe {_rounded(nfe)}", same),
            Law("accounting", f"{where} full", f"tokens computed {_span(shares)} times", "once each",
                all(share == 1 for share in shares)),
            Law("accounting", f"{where} tokens", f"at most {max(tokens, default=0.0):.2f} of the network",
                "no more than all", max(tokens, default=0.0) <= 1),
            Law("accounting", f"{where} cached", f"at most {max(parts, default=0.0):.2f} of the network",
                "less than all", max(parts, default=0.0) < 1),
            Law("accounting", f"{where} conditional", f"{_span(halves)} of the network", "half of it",
                all(share == 0.5 for share in halves)),
            Law("full is full", where, f"{altered} of {len(full)} answers altered", "the network's own", not altered),
        ]  # fmt: skip

    def memory(self) -> Law:
        """What a run holds does not grow with the number of steps.

        It may vary a little: rows that share a storage are counted once, and whether they do depends on the decisions.
        """
        latents = SAMPLES * int(np.prod(SHAPE)) * 8
        few, many = (
            self.run(solver=solver_of(BASE[-1], steps), memory=True).notes.bytes_held / latents for steps in (50, 200)
        )
        found = f"{few:.1f} batches of latents at 50 steps, {many:.1f} at 200"
        return Law("memory", "[50, 200 steps]", found, "at most half as much again", many <= 1.5 * few + 1)

    def few_steps(self) -> Law:
        """Where the steps are too few, `begin` says so with a ValueError that names how many it needs.

        The shortest runs that are accepted come to a finite end.
        """
        where, shape = "[1 to 30 steps]", torch.Size((SAMPLES, *SHAPE))
        refused: list[int] = []
        for steps in range(1, 31):
            try:
                self.factory().begin(solver_of(BASE[-1], steps), shape, seams=True)
            except ValueError as refusal:
                refused.append(steps)
                if not re.search(r"\d.*(step|evaluation)|(step|evaluation).*\d", str(refusal)):
                    return Law("few steps", where, f"{refusal} at {steps}", "the steps it needs", False)
                continue
            if steps > len(refused) + 3:
                continue
            try:
                fast = self.run(solver=solver_of(BASE[-1], steps))
                good = bool(torch.isfinite(fast.sampled.x).all())
                found = "not finite"
            except Exception as failure:  # whatever an accelerator may raise
                good, found = False, f"{type(failure).__name__}: {failure}"
            if not good:
                return Law("few steps", where, f"{found} at {steps}", "ValueError before the run, or none", False)
        found = f"refuses {_span(refused)}" if refused else "takes any number"
        return Law("few steps", where, found, "ValueError before the run, or none", True)

    def inputs(self, name: str, network: str) -> Law:
        """No tensor it was given is changed, then or later."""
        changed = self.made(name, network).notes.changed
        return Law("inputs kept", f"[{name}, {network}]", f"{changed} tensors changed", "none", changed == 0)

    def dtypes(self) -> list[Law]:
        """Estimates have the dtype, device and shape of the states they are for."""
        laws = []
        for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
            for dtype in (torch.float32, torch.bfloat16):
                notes = self.run(dtype=dtype).notes
                wrong = [
                    f"{tuple(x0.shape)} {x0.dtype}"
                    for x0, x in notes.estimates
                    if (x0.shape, x0.dtype, x0.device) != (x.shape, x.dtype, x.device)
                ]
                found = wrong[0] if wrong else "those of x"
                laws.append(Law("dtype", f"[{dtype}, {device}]", found, "shape, dtype and device of x", not wrong))
        return laws

    def shapes(self, shape: Sequence[int], network: str) -> Law:
        """Batches of one, uneven sizes and vectors are sampled, or refused at once."""
        where, expected = f"[{tuple(shape)}, {network}]", "finite, or refused at once"
        given: dict[str, Any] = {"rows": range(shape[0]), "shape": shape[1:], "network": network}
        if (reason := self._refusal(**given)) is not None:
            return Law("shapes", where, f"refused: {reason}", expected, True)
        finite = bool(torch.isfinite(self.run(**given).sampled.x).all())
        return Law("shapes", where, "finite" if finite else "not finite", expected, finite)


class _Never:
    """Plain sampling, as an accelerator."""

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Run:
        return Run(shape[0])


@cache
def _plain_end(name: str, steps: int, network: str) -> Tensor:
    """Where plain sampling ends, for any accelerator to be compared with."""
    return Examination(_Never, steps, 0.0).plain(name, network).sampled.x


@cache
def _coarse_error(few: int, steps: int, network: str) -> float:
    """What Euler changes by taking `few` of the grid's steps in place of all."""
    whole = cast(GridSolver, solver_of("euler", steps))
    points = torch.linspace(0, steps, few + 1, dtype=torch.float64).round().long()
    part = replace(whole, grid=Grid.from_t(whole.grid.schedule, whole.grid.t[points]))
    coarse = Examination(_Never, steps, 0.0).plain(part, network)
    return _rms(coarse.sampled.x - _plain_end("euler", steps, network))


def guarded(name: str, law: Callable[..., Law | Sequence[Law]], *args: Any) -> list[Law]:
    """The laws that `law(*args)` finds; a failed law called `name` where it raises."""
    try:
        found = law(*args)
    except Exception as failure:  # whatever an accelerator may raise
        where = "[" + ", ".join(map(str, args)) + "]" if args else ""
        return [Law(name, where, f"{type(failure).__name__}: {failure}", "no error", False)]
    return [found] if isinstance(found, Law) else list(found)


def _noise(row: int, shape: Sequence[int]) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(row), dtype=torch.float64)


def _rms(difference: Tensor) -> float:
    return float(difference.square().mean().sqrt())


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in values]


def _span(values: Sequence[float]) -> str:
    return "none" if not values else "-".join(f"{value:g}" for value in sorted({min(values), max(values)}))
