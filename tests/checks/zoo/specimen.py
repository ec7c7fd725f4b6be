"""Accelerators as others would write them, with what is wrong about each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from sadaflow.accelerators import Accelerator
from sadaflow.checks import examine_accelerator
from sadaflow.solvers import Solver
from sadaflow.solvers.checks.report import Report


@dataclass(frozen=True)
class Specimen:
    """A wrong accelerator.

    Attributes:
        name: Name of the class.
        mistake: What its author did.
        law: The law that it breaks.
        factory: Makes the accelerator.
        options: Arguments of `check_accelerator`.
    """

    name: str
    mistake: str
    law: str
    factory: Callable[[], Accelerator]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Made:
    """An accelerator whose runs are made by a class, called with the solver, the number of samples and this object."""

    run: type[Any]
    kept: list[Any] = field(default_factory=list)

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Any:
        if solver.n_evals < 6:
            raise ValueError(f"this method needs at least 6 steps, got {solver.n_evals}")
        return self.run(solver, shape[0], self)


def examined(specimen: Specimen) -> Report:
    """The examination of a wrong one by the law that it breaks."""
    options = {"solvers": ("euler",), **specimen.options}
    return examine_accelerator(specimen.factory, laws=(specimen.law,), **options)


WRONG: list[Specimen] = []


def wrong(law: str, mistake: str, **options: Any) -> Callable[[type[Any]], type[Any]]:
    """Adds a class of runs to the wrong ones."""

    def add(run: type[Any]) -> type[Any]:
        WRONG.append(Specimen(run.__name__, mistake, law, lambda: Made(run), options))
        return run

    return add
