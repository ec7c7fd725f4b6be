"""The settings of `sadaflow bench speed`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sadaflow.solvers.registry import known_solver

from ...loading.embedded import embedded
from .architectures import architecture, is_random
from .sides import OURS, SCHEDULERS, THEIRS, diffusers_module

MODES: Final = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
MEASURES: Final = ("sampling", "starts", "memory", "loading", "controller")


@dataclass(frozen=True)
class Speed:
    """What is measured.

    Attributes:
        models: Checkpoints: Hub ids, folders, embedded checkpoints, or random weights (see `architecture`).
        measures: Which of MEASURES.
        steps: Number of steps.
        solver: Name of the solver. None: each checkpoint's own.
        guidance: Guidance scale. None: each checkpoint's own.
        batches: Batch sizes.
        size: Height and width in pixels. None: each checkpoint's own.
        rounds: Measured rounds.
        processes: Processes per side, for "starts".
        accelerators: Accelerators as `make_accelerator` reads them.
        replay: File of recorded modes; each is replayed as an accelerator (see `Forced`).
        latent: Leave out the decoder.
        compiled: Compile the backbones of both sides, for "sampling" only.
        mode: Mode of `torch.compile`.
        alone: Leave out Diffusers.
        network_seconds: Seconds of an evaluation at the size of SDXL, with which accelerator and solver are compared.
            None: as measured on a model of that size.
    """

    models: tuple[str, ...] = ("tiny-sd", "tiny-flux")
    measures: tuple[str, ...] = MEASURES
    steps: int = 20
    solver: str | None = None
    guidance: float | None = None
    batches: tuple[int, ...] = (1,)
    size: int | None = None
    rounds: int = 5
    processes: int = 3
    accelerators: tuple[str, ...] = ()
    replay: Path | None = None
    latent: bool = False
    compiled: bool = False
    mode: str | None = None
    alone: bool = False
    network_seconds: float | None = None

    def check(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: If something cannot be measured.
            ImportError: If Diffusers is needed and not installed.
        """
        for name in self.measures:
            if name not in MEASURES:
                raise ValueError(f"unknown measure {name!r}; known: {', '.join(MEASURES)}")
        for label, count in (("steps", self.steps), ("rounds", self.rounds), ("processes", self.processes)):
            if count < 1:
                raise ValueError(f"{label} must be at least 1, got {count}")
        if any(batch < 1 for batch in self.batches):
            raise ValueError(f"batches must be at least 1, got {', '.join(map(str, self.batches))}")
        if self.network_seconds is not None and not self.network_seconds > 0:
            raise ValueError(f"network_seconds must be positive, got {self.network_seconds}")
        for model in self.models:
            architecture(model) if is_random(model) else embedded(model)
        if self.solver is not None:
            known_solver(self.solver)
            if not self.alone and self.solver not in SCHEDULERS:
                raise ValueError(
                    f"solver {self.solver!r} has no counterpart in Diffusers here; known: {', '.join(SCHEDULERS)}"
                )
        if self.mode is not None and self.mode not in MODES:
            raise ValueError(f"unknown mode {self.mode!r} of torch.compile; known: {', '.join(MODES)}")
        if self.mode is not None and not self.compiled:
            raise ValueError(f"mode {self.mode!r} needs compiling; add --compile")
        if not self.alone:
            diffusers_module()

    @property
    def sides(self) -> tuple[str, ...]:
        return (OURS,) if self.alone else (OURS, THEIRS)
