"""Settings of a training, and what it records: checkpoint file, log, averaged weights and contact sheets."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from .state import Clock, Ema, Log, load_checkpoint, save_checkpoint

SAVE_MINUTES = 3.0
"""Minutes between checkpoints."""


@dataclass(frozen=True)
class LoopSettings:
    """Settings of a training, which ends after `minutes` or `samples`, whichever is reached first.

    Attributes:
        minutes: Minutes of training.
        samples: Number of samples.
        batch: Samples per step, of all workers together.
        learning_rate: Largest learning rate.
        weight_decay: Weight decay of AdamW.
        warm_up_steps: Steps over which the learning rate rises.
        cooldown: Last fraction of the run, over which the learning rate falls to zero.
        ema_decay: Decay of the moving average of the weights per step.
        sheet_minutes: Minutes between contact sheets.
        seed: Seed of weights and data.
    """

    minutes: float = 60.0
    samples: int = 1_000_000
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warm_up_steps: int = 300
    cooldown: float = 0.35
    ema_decay: float = 0.999
    sheet_minutes: float = 10.0
    seed: int = 2


class Record:
    """Optimiser, averaged weights and clock of a training, and the files that the leader writes.

    Args:
        settings: The settings.
        models: The networks; parameters that require gradients are trained.
        path: The checkpoint file.
        log: Writes progress.
        sheet: `sheet(average, path)` writes a contact sheet of the averaged parameters.
    """

    def __init__(
        self,
        settings: LoopSettings,
        models: nn.Module,
        path: Path,
        log: Log,
        sheet: Callable[[Ema, Path], None] | None = None,
    ) -> None:
        self.settings, self.models, self.path, self.log, self.sheet = settings, models, path, log, sheet
        self.ema = Ema(models, settings.ema_decay)
        trained = [parameter for parameter in models.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(
            trained, lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=settings.weight_decay
        )
        self.clock = Clock(settings.minutes)
        self.loss = math.nan  # running mean
        self._saved = self._next_sheet = 0.0  # minutes

    def resume(self) -> int:
        """Restore the checkpoint, if there is one; returns its step."""
        step = load_checkpoint(self.path, self._parts, self.clock)
        self._saved, self._next_sheet = self.clock.minutes, self.clock.minutes + self.settings.sheet_minutes
        return step

    def update(self, step: int, loss: float) -> None:
        """Record a step with this mean loss."""
        self.loss = loss if math.isnan(self.loss) else 0.99 * self.loss + 0.01 * loss
        self.ema.update(self.models)
        minutes = self.clock.minutes
        if step % 100 == 0:
            self._write_line("", step)
        if minutes - self._saved > SAVE_MINUTES:
            self._saved = minutes
            self._save(step)
        if self.sheet is not None and minutes > self._next_sheet:
            self._next_sheet += self.settings.sheet_minutes
            self.sheet(self.ema, self.path.with_name(f"{self.path.stem}-{round(minutes):03d}.png"))

    def finish(self, step: int) -> None:
        """Write the last checkpoint."""
        self._save(step)
        self._write_line(" done", step)

    @property
    def _parts(self) -> dict[str, nn.Module | Ema | torch.optim.Optimizer]:
        return {"models": self.models, "ema": self.ema, "optimiser": self.optimiser}

    def _save(self, step: int) -> None:
        samples = step * self.settings.batch
        save_checkpoint(self.path, step, self._parts, self.clock, loss=self.loss, samples=samples)

    def _write_line(self, what: str, step: int) -> None:
        samples, minutes = step * self.settings.batch, self.clock.minutes
        self.log(f"{self.path.stem}{what}: step {step} samples {samples} minutes {minutes:.2f} loss {self.loss:.4f}")
