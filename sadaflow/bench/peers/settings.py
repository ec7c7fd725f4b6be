"""The settings of `sadaflow bench peers`."""

from dataclasses import dataclass
from typing import Final

from ...loading.embedded import embedded
from ..speed.sides import SCHEDULERS, diffusers_module

PROMPTS: Final = ("red apple", "grinning face", "pizza", "cat face", "red heart", "rocket", "sun", "banana")
"""Half of what the documentation's fronts sample, which nothing is tuned on."""


@dataclass(frozen=True)
class Peers:
    """What is measured.

    Attributes:
        model: A checkpoint with a U-Net or Flux's transformer: Hub id, folder, or name of an embedded checkpoint.
        steps: Number of steps.
        solver: Name of the solver. None: the checkpoint's own.
        guidance: Guidance scale. None: the checkpoint's own.
        prompts: One prompt per sample. All are sampled in one batch.
        rounds: Timed rounds.
    """

    model: str = "tiny-sd"
    steps: int = 50
    solver: str | None = None
    guidance: float | None = None
    prompts: tuple[str, ...] = PROMPTS
    rounds: int = 3

    def check(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: If something cannot be measured.
            ImportError: If Diffusers is not installed.
        """
        for label, count in (("steps", self.steps), ("rounds", self.rounds), ("prompts", len(self.prompts))):
            if count < 1:
                raise ValueError(f"{label} must be at least 1, got {count}")
        embedded(self.model)
        if self.solver is not None and self.solver not in SCHEDULERS:
            known = ", ".join(SCHEDULERS)
            raise ValueError(f"solver {self.solver!r} has no counterpart in Diffusers here; known: {known}")
        diffusers_module("pip install 'sadaflow[peers]'")
