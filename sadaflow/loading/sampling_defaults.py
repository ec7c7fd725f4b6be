"""What a checkpoint's authors recommend sampling it with, written into its own files."""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from ..solvers.registry import known_solver

# An object of model_index.json. Diffusers, and we, take what begins with an underscore for the writer's own.
FIELD = "_sadaflow"


@dataclass(frozen=True)
class Recommended:
    """Guidance, steps and solver (by name) that suit a checkpoint; None where its files say nothing."""

    guidance: float | None = None
    steps: int | None = None
    solver: str | None = None

    @classmethod
    def read(cls, index: Mapping[str, Any], place: str) -> Self:
        """From a model_index.json that lies at `place`; ValueError naming what cannot be honoured."""
        found = index.get(FIELD, {})
        known = [field.name for field in fields(cls)]
        if not isinstance(found, dict) or not found.keys() <= set(known):
            raise ValueError(f"{place}: {FIELD} is {reprlib.repr(found)}, expected an object of {', '.join(known)}")
        guidance, steps, solver = (found.get(name) for name in known)
        if guidance is not None and not (type(guidance) in (int, float) and abs(guidance) < math.inf):
            raise ValueError(f"{place}: {FIELD}.guidance is {reprlib.repr(guidance)}, expected a finite number")
        if steps is not None and not (type(steps) is int and 1 <= steps <= 1000):
            raise ValueError(f"{place}: {FIELD}.steps is {reprlib.repr(steps)}, expected a whole number from 1 to 1000")
        if solver is not None:
            known_solver(str(solver))
        return cls(guidance, steps, solver)
