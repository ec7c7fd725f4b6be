"""Laws on the result: plain sampling until a step is saved, and an error within that of fewer steps."""

from collections.abc import Iterator

import torch

from sadaflow.sampling.loop import sample
from sadaflow.solvers import draws_noise

from ..examination import Examination, largest
from ..finding import Finding
from ..recording import Watched
from ..runs import SAMPLES, SHAPE, Case
from ..schedules import PURE_NOISE, solver_on

_SHIFT = 1e-5  # change of the noise, against which float32 rounds finely and float16 coarsely
_HARDLY_BETTER, _SPREAD = 0.5, 8.0  # the methods of the library spread by a factor of 5
_BENT = 0.2


def identity(on: Examination, solver: str, network: str, schedule: str) -> Iterator[Finding]:
    """Up to the first step that is not evaluated in full, the trajectory is the plain one, bit for bit."""
    case, where = Case(solver, network, schedule, verify=True), f"[{solver}, {network}, {schedule}]"
    plain, fast = on.plain(case), on.made(case)
    last, expected = fast.first_departure, "plain sampling until the first step saved"
    apart = [
        step
        for step in range(on.steps)
        if (step <= last and not torch.equal(fast.notes.entered[step], plain.notes.entered[step]))
        or (step < last and not torch.equal(fast.notes.left[step], plain.notes.entered[step]))
    ]
    equal = not apart and (fast.saves or torch.equal(fast.x, plain.x))
    found = f"equal up to step {last}" if equal else f"x differs at step {apart[0] if apart else last}"
    yield Finding("identity", where, found, expected, equal, bites=fast.saves)
    if on.never is not None:
        complete = on.run(case, on.never())
        full = complete.sampled.stats.nfe == [float(on.steps)] * SAMPLES
        same = torch.equal(complete.x, plain.x)
        found = f"{'equal' if same else 'another x'}, NFE {max(complete.sampled.stats.nfe):g}"
        yield Finding("identity", f"{where[:-1]}, never]", found, f"equal, NFE {on.steps}", full and same)


def full_is_full(on: Examination, solver: str, network: str, schedule: str) -> Iterator[Finding]:
    """The seam of a full evaluation does not change the network's prediction."""
    fast = on.made(Case(solver, network, schedule, verify=True))
    modes = {(step, row): mode for row, line in enumerate(fast.modes) for step, mode in enumerate(line)}
    full = [item for item in getattr(fast.denoiser, "work", ()) if modes.get((item.step, item.row)) == "full"]
    altered = sum(not item.exact for item in full)
    found = f"{altered} of {len(full)} outputs changed"
    yield Finding("full is full", f"[{solver}, {network}, {schedule}]", found, "the network's own", not altered)


def accuracy(on: Examination, solver: str, network: str, schedule: str) -> Iterator[Finding]:
    """On every schedule and network, the end is as accurate as a naive method's at the same cost."""
    case = Case(solver, network, schedule, verify=True)
    fast = on.made(case)
    error, bound = on.accurate(fast, case)
    share = sum(fast.sampled.stats.nfe) / (SAMPLES * on.steps)
    expected = f"at most {bound:.1e}, {on.worst:g} x a naive method's"
    where = f"[{solver}, {network}, {schedule}]"
    yield Finding("accuracy", where, f"{error:.1e} at {share:.2f} of the cost", expected, error <= bound, fast.saves)


def schedules(on: Examination, network: str) -> Iterator[Finding]:
    """What a method gains over holding x0, it gains on every schedule: it is right not on one of them alone."""
    cases = {name: Case(network=network, schedule=name, verify=True) for name in on.schedules}
    made = {name: on.made(case) for name, case in cases.items()}
    held = {name: on.held_error(made[name], case) for name, case in cases.items()}
    ratios = {name: on.error(made[name], case) / held[name] for name, case in cases.items() if held[name] > 0}
    best = min(ratios.values(), default=0.0)
    bound = max(_HARDLY_BETTER, _SPREAD * best)
    for name, ratio in ratios.items():
        found, expected = f"{ratio:.2f} of the error of holding x0", f"at most {bound:.2f}, {best:.2f} being the best"
        yield Finding("schedules", f"[{network}, {name}]", found, expected, ratio <= bound, len(ratios) > 1)


def solvers(on: Examination, solver: str) -> Iterator[Finding]:
    """A run with any solver is refused before its first evaluation, or finite and as accurate as a naive method."""
    case, where, expected = Case(solver, on.quick, steps=on.short), f"[{solver}]", "finite, or refused at once"
    try:
        fast = on.made(case)
    except ValueError as refusal:
        try:
            on.factory().begin(on.solver(case), torch.Size((SAMPLES, *SHAPE)), seams=True)
        except ValueError:
            yield Finding("solvers", where, f"refused: {refusal}", expected, True, bites=False)
            return
        yield Finding("solvers", where, f"stopped midway: {refusal}", expected, False)
        return
    finite = bool(torch.isfinite(fast.x).all())
    yield Finding("solvers", where, "finite" if finite else "not finite", expected, finite, fast.saves)
    if draws_noise(solver) or not finite:
        return
    error, bound = on.accurate(fast, case)
    expected = f"at most {bound:.1e}, {on.worst:g} x a naive method's"
    yield Finding("accuracy", where, f"error {error:.1e}", expected, error <= bound, fast.saves)


def pure_noise(on: Examination, solver: str) -> Finding:
    """A run from alpha = 0, where the log-SNR is -inf, is finite, or refused at once."""
    case, where = Case(solver), f"[{solver}, flow from t = 1]"
    start = solver_on(PURE_NOISE, solver, on.steps, SAMPLES)
    notes = Watched(on.factory())
    try:
        notes.begin(start, torch.Size((SAMPLES, *SHAPE)), seams=True)
    except ValueError as refusal:
        return Finding("pure noise", where, f"refused: {refusal}", "finite, or refused at once", True, bites=False)
    sampled = sample(start, on.denoiser(case, start), case.noise(), notes)
    finite = bool(torch.isfinite(sampled.x).all())
    saves = any(mode != "full" for line in sampled.stats.modes for mode in line)
    return Finding("pure noise", where, "finite" if finite else "not finite", "finite", finite, saves)


def rounding(on: Examination, schedule: str) -> Finding:
    """Small changes of the noise change the end in proportion: nothing is kept in a coarser dtype than the states'.

    The ends of three runs, with the noise changed by -d, 0 and d, lie on a line but for d^2. Values rounded to float16
    or bfloat16 on the way jump by more than d.
    """
    cases = [Case(schedule=schedule, network=on.quick, shift=shift) for shift in (-_SHIFT, 0.0, _SHIFT)]
    below, here, above = (on.made(case) for case in cases)
    rows = [row for row in range(SAMPLES) if below.modes[row] == here.modes[row] == above.modes[row]]
    where, expected = f"[{schedule}]", f"at most {_BENT:g} of the change"
    if not rows or not here.saves:
        return Finding("rounding", where, "decisions changed", expected, True, bites=False)
    bent = largest((below.x - 2 * here.x + above.x)[rows]) / max(largest((above.x - below.x)[rows]), 1e-300)
    return Finding("rounding", where, f"{bent:.1e} of the change off the line", expected, bent <= _BENT)
