"""The training loop: data-parallel and resumable, until a number of minutes or samples is reached."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from .data_parallel import Team, mean_over
from .state import Clock, Ema, Log, load_checkpoint, save_checkpoint

SAVE_MINUTES = 3.0
Models = TypeVar("Models", bound=nn.Module)


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


def learning_rate_factor(step: int, progress: float, settings: LoopSettings) -> float:
    """Factor of the learning rate: linear warm-up, constant, then linear to zero at `progress` 1."""
    return min(1.0, (step + 1) / settings.warm_up_steps, max(0.0, 1 - progress) / settings.cooldown)


def train_loop(
    team: Team,
    settings: LoopSettings,
    models: nn.Module,
    loss: Callable[[int, torch.Generator], Tensor],
    path: Path,
    log: Log,
    sheet: Callable[[Ema, Path], None] | None = None,
) -> None:
    """Train the parameters of `models` that require gradients.

    Args:
        team: The workers.
        settings: The settings.
        models: The networks.
        loss: `loss(samples, generator)` is the loss of this worker's part of a batch.
        path: File to write to and to resume from.
        log: Writes progress.
        sheet: `sheet(average, path)` writes a contact sheet of the averaged parameters.

    Raises:
        FloatingPointError: If the loss is NaN or infinite.
    """
    ema = Ema(models, settings.ema_decay)
    trained = [parameter for parameter in models.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(
        trained, lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=settings.weight_decay
    )
    state = {"models": models, "ema": ema, "optimiser": optimiser}
    clock = Clock(settings.minutes)
    step = load_checkpoint(path, state, clock)
    running, saved, name = math.nan, clock.minutes, path.stem
    next_sheet = clock.minutes + settings.sheet_minutes
    while (progress := max(team.agree(clock.progress), step * settings.batch / settings.samples)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * learning_rate_factor(step, progress, settings)
        value = loss(settings.batch // team.size, team.generator(settings.seed, step))
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        team.average_gradients([models])
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        step += 1
        clock.tick()
        mean = mean_over(team, value)
        if not math.isfinite(mean):
            raise FloatingPointError(f"the loss is {mean} at step {step}; lower learning_rate and resume")
        running = mean if math.isnan(running) else 0.99 * running + 0.01 * mean
        if not team.leads:
            continue
        ema.update(models)
        samples = step * settings.batch
        if step % 100 == 0:
            log(f"{name}: step {step} samples {samples} minutes {clock.minutes:.2f} loss {running:.4f}")
        if clock.minutes - saved > SAVE_MINUTES:
            saved = clock.minutes
            save_checkpoint(path, step, state, clock, loss=running, samples=samples)
        if sheet is not None and clock.minutes > next_sheet:
            next_sheet += settings.sheet_minutes
            sheet(ema, path.with_name(f"{name}-{round(clock.minutes):03d}.png"))
    if team.leads:
        samples = step * settings.batch
        save_checkpoint(path, step, state, clock, loss=running, samples=samples)
        log(f"{name} done: step {step} samples {samples} minutes {clock.minutes:.2f} loss {running:.4f}")


def averaged(fresh: Models, models: nn.Module, ema: Ema) -> Models:
    """Load the averaged parameters, and the buffers of `models`, into `fresh` for evaluation; returns `fresh`."""
    fresh.load_state_dict(models.state_dict())
    ema.copy_to(fresh)
    return fresh.eval().requires_grad_(False)


def restored(path: Path, models: Models) -> Models:
    """Load the averaged parameters that `train_loop` wrote to `path` into `models` for evaluation; returns `models`."""
    ema = Ema(models, 0.0)
    load_checkpoint(path, {"models": models, "ema": ema}, Clock(1))
    ema.copy_to(models)
    return models.eval().requires_grad_(False)
