"""Sampling settings that a checkpoint's authors recommend in its model_index.json."""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from ..solvers.registry import known_solver

# Diffusers ignores fields of model_index.json that begin with an underscore.
FIELD = "_sadaflow"


@dataclass(frozen=True)
class Recommended:
    """Recommended settings; None where the checkpoint recommends nothing.

    Attributes:
        guidance: Guidance scale.
        steps: Number of steps, 1 to 1000.
        solver: Name of a solver.
    """

    guidance: float | None = None
    steps: int | None = None
    solver: str | None = None

    @classmethod
    def read(cls, index: Mapping[str, Any], label: str) -> Self:
        """Read the settings in a model_index.json.

        Args:
            index: Its content.
            label: Its path, for errors.

        Raises:
            ValueError: If a field is unknown, has a wrong value or names an unknown solver.
        """
        found = index.get(FIELD, {})
        known = [field.name for field in fields(cls)]
        if not isinstance(found, dict) or not found.keys() <= set(known):
            raise ValueError(f"{label}: {FIELD} is {reprlib.repr(found)}, expected an object of {', '.join(known)}")
        guidance, steps, solver = (found.get(name) for name in known)
        if guidance is not None and not (type(guidance) in (int, float) and abs(guidance) < math.inf):
            raise ValueError(f"{label}: {FIELD}.guidance is {reprlib.repr(guidance)}, expected a finite number")
        if steps is not None and not (type(steps) is int and 1 <= steps <= 1000):
            raise ValueError(f"{label}: {FIELD}.steps is {reprlib.repr(steps)}, expected a whole number from 1 to 1000")
        if solver is not None:
            known_solver(str(solver))
        return cls(guidance, steps, solver)
