"""The laws that accelerators must obey, each measured on exact denoisers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from sadaflow.sampling.results import Step
from sadaflow.solvers import draws_noise
from sadaflow.solvers.checks.report import Law

from ..accelerators.base import Accelerator, Mode
from .networks import Plain, Work
from .runs import SAMPLES, SHAPE, Factory, Outcome, Runs, coarse_error, plain_end, rms, solver_of

BASE: Final = ("euler", "dpmpp2m")
"""Solvers with one evaluation a step, used for all laws but those on solvers."""
_TOLERANCE: Final = 1e-8  # between a sample alone and in a batch, whose sums round differently
SHAPES: Final = ((1, 2, 5, 8), (3, 2, 6, 6), (2, 7))


@dataclass(frozen=True)
class Examination(Runs):
    """The laws, one method each, measured with the networks that the accelerator does not refuse.

    Attributes:
        worst: Factor by which the error may exceed that of Euler's method at the same cost.
    """

    worst: float

    def enters(self) -> list[Law]:
        """Every type of network is sampled, or refused before the second evaluation; at least one is sampled."""
        expected = "sampled, or refused at once"
        laws = [
            Law("networks", f"[{network}]", "sampled" if reason is None else f"refused: {reason}", expected, True)
            for network, reason in self.refusals.items()
        ]
        return [*laws, Law("networks", "[all]", f"{len(self.networks)} sampled", "one or more", bool(self.networks))]

    def runs(self, name: str) -> Law:
        """A first run ends in finite states, with one mode for each sample at each step."""
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
            complete = self.run(never(), solver=name, network=network)
            full = complete.sampled.stats.nfe == [float(self.steps)] * SAMPLES
            same = torch.equal(complete.sampled.x, plain.sampled.x)
            found = f"{'equal' if same else 'another x'}, NFE {max(complete.sampled.stats.nfe):g}"
            laws.append(Law("identity", f"{where[:-1]}, never]", found, f"equal, NFE {self.steps}", full and same))
        return laws

    def batch(self, name: str, network: str) -> Law:
        """A sample has the same decisions and the same end alone, in a batch, and in a reordered batch."""
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
        """Two runs under different global seeds are equal and draw nothing from the global generators."""
        first, second = self.run(seed=0), self.run(seed=1)
        equal = torch.equal(first.sampled.x, second.sampled.x) and first.modes == second.modes
        drew = first.seeds_used or second.seeds_used
        found = f"{'equal' if equal else 'another result'}{', drew from a global generator' if drew else ''}"
        return Law("determinism", "[two global seeds]", found, "equal, nothing drawn", equal and not drew)

    def state(self) -> Law:
        """One object gives the same result with runs of other shapes and lengths before, after and during its run."""
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
        pairs = [(interrupted, alone), (after, alone), *((outcome, beside) for outcome in (before, *disturbed))]
        good = all(a.modes == b.modes and torch.equal(a.sampled.x, b.sampled.x) for a, b in pairs)
        found = "equal" if good else "another result"
        return Law("state", "[one object, four runs]", found, "those of a new object", good)

    def solvers(self, name: str) -> list[Law]:
        """A run with any solver is refused before its first evaluation, or finite and as accurate as a coarser grid."""
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
        error = rms(fast.sampled.x - plain_end(name, self.steps, self.networks[0]))
        share = sum(fast.sampled.stats.nfe) / (SAMPLES * solver.n_evals)
        bound = self.worst * coarse_error(max(1, round(share * self.steps)), self.steps, self.networks[0])
        expected = f"at most {bound:.1e}, {self.worst:g} x Euler's on as few steps"
        return [*laws, Law("accuracy", where, f"{error:.1e} at {share:.2f} of the cost", expected, error <= bound)]

    def accounting(self, name: str, network: str) -> list[Law]:
        """`Stats.nfe` and the modes equal the work that the network did."""
        fast, where = self.made(name, network), f"[{name}, {network}]"
        nfe = fast.sampled.stats.nfe
        if isinstance(fast.denoiser, Plain):
            calls = fast.denoiser.calls
            return [Law("accounting", where, f"{calls} calls", f"nfe {nfe}", nfe == [float(calls)] * SAMPLES)]
        work = fast.denoiser.work
        modes = {(step, row): mode for row, line in enumerate(fast.modes) for step, mode in enumerate(line)}

        def did(mode: Mode) -> list[Work]:
            return [item for item in work if modes[item.step, item.row] == mode]

        partly = {(item.step, item.row): item.share for item in [*did(Mode.CACHED), *did(Mode.CONDITIONAL)]}
        rows = [sum(partly.get((item.step, row), 1.0) for item in work if item.row == row) for row in range(SAMPLES)]
        full, tokens = did(Mode.FULL), [item.share for item in did(Mode.TOKENS)]
        parts, halves = ([item.share for item in did(mode)] for mode in (Mode.CACHED, Mode.CONDITIONAL))
        shares = [item.share for item in full]
        altered = sum(not item.exact for item in full)
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
            Law("full is full", where, f"{altered} of {len(full)} outputs changed", "the network's own", not altered),
        ]  # fmt: skip

    def memory(self) -> Law:
        """The memory that a run holds does not grow with the number of steps.

        It may vary a little: rows that share a storage are counted once, and whether they do depends on the decisions.
        """
        latents = SAMPLES * int(np.prod(SHAPE)) * 8
        few, many = (
            self.run(solver=solver_of(BASE[-1], steps), memory=True).notes.bytes_held / latents for steps in (50, 200)
        )
        found = f"{few:.1f} batches of latents at 50 steps, {many:.1f} at 200"
        return Law("memory", "[50, 200 steps]", found, "at most half as much again", many <= 1.5 * few + 1)

    def few_steps(self) -> Law:
        """If there are too few steps, `begin` raises a ValueError that names the number it needs.

        The shortest runs that it accepts end in finite states.
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
            except Exception as failure:  # an accelerator may raise anything
                good, found = False, f"{type(failure).__name__}: {failure}"
            if not good:
                return Law("few steps", where, f"{found} at {steps}", "ValueError before the run, or none", False)
        found = f"refuses {_span(refused)}" if refused else "takes any number"
        return Law("few steps", where, found, "ValueError before the run, or none", True)

    def inputs(self, name: str, network: str) -> Law:
        """No tensor that the run was given changes during the run."""
        changed = self.made(name, network).notes.changed
        return Law("inputs kept", f"[{name}, {network}]", f"{changed} tensors changed", "none", changed == 0)

    def dtypes(self) -> list[Law]:
        """Estimates have the dtype, device and shape of their states."""
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
        """Batches of 1, odd sizes and vectors are sampled, or refused at once."""
        where, expected = f"[{tuple(shape)}, {network}]", "finite, or refused at once"
        given: dict[str, Any] = {"rows": range(shape[0]), "shape": shape[1:], "network": network}
        if (reason := self._refusal(**given)) is not None:
            return Law("shapes", where, f"refused: {reason}", expected, True)
        finite = bool(torch.isfinite(self.run(**given).sampled.x).all())
        return Law("shapes", where, "finite" if finite else "not finite", expected, finite)


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in values]


def _span(values: Sequence[float]) -> str:
    return "none" if not values else "-".join(f"{value:g}" for value in sorted({min(values), max(values)}))
