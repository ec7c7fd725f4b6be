"""Checks that the sites of a network obey what `Seam` and `Site` promise; `check_seams` is made for tests."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from sadaflow.models import Seam, Site, call_through
from sadaflow.sampling.binding import bound
from sadaflow.sampling.denoiser import Denoise, evaluates_rows
from sadaflow.solvers import Solver
from sadaflow.solvers.checks.report import Law, Report

from ..accelerators.caching.base import batch_indices, on_some
from ..device.indexing import put

PAGE: Final = "docs/write-a-seam.md"
_ROUNDING: Final = {torch.float64: 1e-9, torch.float32: 1e-4}
_COARSE: Final = 5e-2  # of half precision

Handle = Callable[..., Tensor]


def check_seams(denoise: Denoise, solver: Solver, noise: Tensor, *, step: int = 0) -> Report:
    """Checks the sites of a denoiser's network at one evaluation, with a few evaluations of the batch.

    Args:
        denoise: A denoiser that lets a seam in (`RowDenoise`).
        solver: The solver whose nodes it is evaluated at.
        noise: Unit-normal noise of at least two samples, (B, ...).
        step: Index of the evaluation.

    Returns:
        The report of all laws.

    Raises:
        AssertionError: if a law does not hold, with the report as its text.
        ValueError: if the denoiser lets no seam in, or there are fewer than two samples.
    """
    report = examine_seams(denoise, solver, noise, step=step)
    if not report.passed:
        raise AssertionError(str(report))
    return report


@torch.no_grad()
def examine_seams(denoise: Denoise, solver: Solver, noise: Tensor, *, step: int = 0) -> Report:
    """Checks the sites of a denoiser's network, and reports.

    Args:
        denoise: The denoiser; as of `check_seams`, like the arguments below.
        solver: Solver whose step is evaluated.
        noise: Start noise (B, ...) of at least two samples.
        step: Index of the step that is evaluated.

    Raises:
        ValueError: If the denoiser lets no seam in, or if the noise has fewer than two samples.
    """
    made = bound(denoise, solver, noise)
    if not evaluates_rows(made):
        raise ValueError("this denoiser lets no seam into its network: it has no `evaluate`, as `RowDenoise` describes")
    if len(noise) < 2:
        raise ValueError(f"the rows of a seam need at least two samples of noise, got {len(noise)}")
    x = solver.start(noise).x

    def evaluated(seam: Seam) -> Tensor:
        return made.evaluate(x, step, range(len(x)), seam)

    return Report("the network's sites", tuple(_laws(evaluated, len(x))), PAGE)


@dataclass
class _Acting:
    """A seam that calls through, except at the outermost sites of one kind, where it calls `handle`.

    Attributes:
        kind: The kind of site; None for none.
        handle: Called as a seam is.
        met: Sites that it was called at, with the shapes of their inputs and outputs.
    """

    kind: str | None = None
    handle: Handle = call_through
    met: list[tuple[Site, torch.Size, torch.Size]] = field(default_factory=list)
    _inside: bool = False

    def __call__(self, site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
        if site.kind != self.kind or self._inside:
            output = fn(hidden, *args)
            self.met.append((site, hidden.shape, output.shape))
            return output
        self._inside = True
        output = self.handle(site, fn, hidden, *args)
        self._inside = False
        return output


def _laws(evaluated: Callable[[Seam], Tensor], samples: int) -> Iterator[Law]:
    plain, through = evaluated(call_through), _Acting()
    yield _equal("identity", "all sites", evaluated(through), plain)
    sites = [site for site, _, _ in through.met]
    yield Law("sites", "one evaluation", f"{len(sites)}", "at least one", bool(sites))
    repeated = sorted({site.name for site in sites if [other.name for other in sites].count(site.name) > 1})
    yield Law("names", "all sites", ", ".join(repeated) or "different", "different", not repeated)
    yield _shapes(through)
    for kind in dict.fromkeys(site.kind for site in sites):
        yield _equal("rows", kind, evaluated(_Acting(kind, _halves(samples))), plain)
        if any(site.kind == kind and site.tokens for site in sites) and kind in ("trunk", "block"):
            yield _equal("tokens", kind, evaluated(_Acting(kind, _reordered)), plain)


def _equal(name: str, where: str, found: Tensor, expected: Tensor) -> Law:
    if found.shape != expected.shape:
        return Law(name, where, f"shape {tuple(found.shape)}", f"shape {tuple(expected.shape)}", False)
    apart = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
    bound = _ROUNDING.get(expected.dtype, _COARSE)
    return Law(name, where, f"{apart:.1e} of x0 apart", f"at most {bound:.0e}", apart <= bound)


def _shapes(seam: _Acting) -> Law:
    """The law on the shapes of sites: hidden has a token for each position, and the output the shape of hidden."""
    wrong = []
    for site, hidden, output in seam.met:
        positions = math.prod(site.size) + site.prefix
        counted = hidden[1] == positions if site.kind in ("block", "trunk", "attention") else len(hidden) == 4
        if not counted or (output != hidden and site.kind != "deep"):
            wrong.append(f"{site.name}: {tuple(hidden)} to {tuple(output)}, {site.size} and prefix {site.prefix}")
    return Law("shapes", "all sites", "; ".join(wrong[:3]) or "as described", "as described", not wrong)


def _halves(samples: int) -> Handle:
    """Calls the site's function for the first half of the samples, and then for the others."""

    def handle(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
        output: Tensor | None = None
        for chosen in (range(samples // 2), range(samples // 2, samples)):
            part = on_some(fn, samples, chosen, hidden, *args)
            output = part.new_empty((len(hidden), *part.shape[1:])) if output is None else output
            put(output, batch_indices(hidden, samples, chosen), part)
        assert output is not None
        return output

    return handle


def _reordered(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
    """Calls the site's function on the image tokens in reverse order, with the arguments that have one per token."""
    if not site.tokens:
        return fn(hidden, *args)
    order = torch.cat((torch.arange(site.prefix), torch.arange(hidden.shape[1] - 1, site.prefix - 1, -1)))
    order = order.to(hidden.device)

    def moved(index: int, arg: Tensor | None) -> Tensor | None:
        return arg.index_select(1, order) if arg is not None and index in site.per_token else arg

    return fn(hidden.index_select(1, order), *(moved(*pair) for pair in enumerate(args))).index_select(1, order)
