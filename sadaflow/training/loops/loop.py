"""The training loop: data-parallel and resumable, until a number of minutes or samples is reached."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from .data_parallel import Team, mean_over
from .record import LoopSettings, Record
from .state import Clock, Ema, Log, load_checkpoint

Models = TypeVar("Models", bound=nn.Module)


def learning_rate_factor(step: int, progress: float, settings: LoopSettings) -> float:
    """Factor of the learning rate: linear warm-up, constant, then linear to zero at `progress` 1."""
    return min(1.0, (step + 1) / settings.warm_up_steps, max(0.0, 1 - progress) / settings.cooldown)


def optimisation_step(
    team: Team, optimiser: torch.optim.Optimizer, learning_rate: float, loss: Tensor, modules: Iterable[nn.Module]
) -> None:
    """Make one step of the optimiser, with gradients averaged over the workers and clipped to norm 1.

    Args:
        team: The workers.
        optimiser: Optimiser of the parameters that are trained.
        learning_rate: Learning rate of this step.
        loss: Loss of this worker's part of the batch.
        modules: The networks whose gradients are averaged.
    """
    for group in optimiser.param_groups:
        group["lr"] = learning_rate
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    team.average_gradients(modules)
    torch.nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 1.0)
    optimiser.step()


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
    record = Record(settings, models, path, log, sheet)
    step, clock = record.resume(), record.clock
    while (progress := max(team.agree(clock.progress), step * settings.batch / settings.samples)) < 1:
        value = loss(settings.batch // team.size, team.generator(settings.seed, step))
        rate = settings.learning_rate * learning_rate_factor(step, progress, settings)
        optimisation_step(team, record.optimiser, rate, value, [models])
        step += 1
        clock.tick()
        mean = mean_over(team, value)
        if not math.isfinite(mean):
            raise FloatingPointError(f"the loss is {mean} at step {step}; lower learning_rate and resume")
        if team.leads:
            record.update(step, mean)
    if team.leads:
        record.finish(step)


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
