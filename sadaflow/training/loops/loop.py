"""The loop that trainings share: data-parallel steps until minutes or samples are used up, resumable at any step."""

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
    """What decides how long and how fast a training goes; it ends after `minutes` or `samples`, whichever is first."""

    minutes: float = 60.0
    samples: int = 1_000_000
    batch: int = 64  # of all workers together
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warm_up_steps: int = 300
    cooldown: float = 0.35  # last part of the run, over which the learning rate falls to zero
    ema_decay: float = 0.999
    sheet_minutes: float = 10.0
    seed: int = 2


def learning_rate_factor(step: int, progress: float, settings: LoopSettings) -> float:
    """Linear warm-up, constant, then linear to zero over the last part of the run."""
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
    """Train the parameters of `models` that want gradients into `path`, resuming from there.

    `loss(samples, generator)` is this worker's part of a batch. The leader keeps the averaged parameters and shows them
    to `sheet(average, picture path)` every `sheet_minutes`. FloatingPointError when the loss is no longer a number.
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
    """`fresh`, built like `models`, with the averaged parameters (and the buffers of `models`), for evaluation."""
    fresh.load_state_dict(models.state_dict())
    ema.copy_to(fresh)
    return fresh.eval().requires_grad_(False)


def restored(path: Path, models: Models) -> Models:
    """`models` with the averaged parameters that `train_loop` left in `path`, for evaluation."""
    ema = Ema(models, 0.0)
    load_checkpoint(path, {"models": models, "ema": ema}, Clock(1))
    ema.copy_to(models)
    return models.eval().requires_grad_(False)
