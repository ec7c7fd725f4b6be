"""Reads the sampling settings that a checkpoint's authors recommend in model_index.json."""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from ..solvers.registry import known_solver

FIELD = "_sadaflow"
"""Object of model_index.json that holds them; Diffusers ignores fields that begin with an underscore."""
SHARED = "components"
"""Entry of that object with the components that an embedded checkpoint takes from others (see `embedded`)."""

# Solver and steps, by scheduler class.
_DISTILLED = {"LCMScheduler": ("lcm", 4), "TCDScheduler": ("tcd", 4)}


@dataclass(frozen=True)
class Recommended:
    """Sampling settings that a checkpoint recommends.

    Attributes:
        guidance: Guidance strength; None (here and below) if the checkpoint recommends none.
        steps: Number of steps.
        solver: Name of the solver.
    """

    guidance: float | None = None
    steps: int | None = None
    solver: str | None = None

    @classmethod
    def read(cls, index: Mapping[str, Any], label: str) -> Self:
        """Read the settings from a model_index.json.

        Args:
            index: The JSON object.
            label: Path of the file, for messages.

        Raises:
            ValueError: If a setting is unknown or its value cannot be used.
        """
        found = index.get(FIELD, {})
        known = [field.name for field in fields(cls)]
        if not isinstance(found, dict) or not found.keys() <= {*known, SHARED}:
            raise ValueError(f"{label}: {FIELD} is {reprlib.repr(found)}, expected an object of {', '.join(known)}")
        guidance, steps, solver = (found.get(name) for name in known)
        if guidance is not None and not (type(guidance) in (int, float) and abs(guidance) < math.inf):
            raise ValueError(f"{label}: {FIELD}.guidance is {reprlib.repr(guidance)}, expected a finite number")
        if steps is not None and not (type(steps) is int and 1 <= steps <= 1000):
            raise ValueError(f"{label}: {FIELD}.steps is {reprlib.repr(steps)}, expected a whole number from 1 to 1000")
        if solver is not None:
            known_solver(str(solver))
        return cls(guidance, steps, solver)

    def or_else(self, other: "Recommended") -> Self:
        """These settings, completed by those of `other`."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: getattr(other, name) for name, value in own.items() if value is None})

    def or_distilled(self, scheduler: Mapping[str, Any]) -> Self:
        """These settings, completed for a network that was distilled for few steps, as its scheduler config says.

        Args:
            scheduler: The scheduler config. LCMScheduler (arXiv 2310.04378) and TCDScheduler (arXiv 2402.19159) belong
                to such networks.
        """
        solver, steps = _DISTILLED.get(str(scheduler.get("_class_name")), (None, None))
        return replace(self, steps=self.steps or steps, solver=self.solver or solver)
