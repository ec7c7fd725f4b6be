"""Trains the decoder of an autoencoder further, on the latents that a diffusion model is trained on."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sadaflow.models import Autoencoder

from .data_parallel import Team
from .loop import optimisation_step
from .state import Clock, Ema, Log, channels_last, save_checkpoint
from .vae import reconstruction_loss, to_signed


@dataclass(frozen=True)
class DecoderSettings:
    """Settings of the training of the decoder alone, on the latents that the U-Net is trained on.

    Attributes:
        minutes: Minutes of training.
        batch: Samples per step, of all workers together.
        learning_rate: Largest learning rate.
        warm_up_steps: Steps over which the learning rate rises.
        latent_noise: Standard deviation of noise that is added to the scaled latents.
        edge_weight: See `VaeSettings`.
        ema_decay: See `VaeSettings`.
        seed: Seed of the data.
    """

    minutes: float = 6.0
    batch: int = 24
    learning_rate: float = 6e-4
    warm_up_steps: int = 30
    latent_noise: float = 0.05
    edge_weight: float = 1.0
    ema_decay: float = 0.99
    seed: int = 3


def refine_decoder(
    team: Team,
    settings: DecoderSettings,
    vae: Autoencoder,
    latents: Tensor,
    pictures: Tensor,
    weights: Tensor,
    folder: Path,
    log: Log,
) -> None:
    """Train the decoder further; the result is folder/decoder.pt.

    Args:
        team: The workers.
        settings: The settings.
        vae: The autoencoder; its decoder is changed.
        latents: Scaled latents (N, 4, h, w).
        pictures: Their pictures (N, 3, H, W) in bytes.
        weights: Sampling weights (N,) of the pictures.
        folder: Folder to write to.
        log: Writes progress.
    """
    channels_last(vae)
    decoder = nn.ModuleList([vae.post_quant_conv, vae.decoder]).requires_grad_(True)
    ema = Ema(decoder, settings.ema_decay)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=1e-3)
    clock, step = Clock(settings.minutes), 0
    while (progress := team.agree(clock.progress)) < 1:
        rate = min((step + 1) / settings.warm_up_steps, 1 - progress)
        generator = team.generator(settings.seed, step)
        rows = torch.multinomial(weights, settings.batch // team.size, replacement=True, generator=generator)
        noise = settings.latent_noise * torch.randn(latents[rows].shape, generator=generator)
        scaled = (latents[rows] + noise).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            images = vae.decode(scaled / vae.config.scaling_factor)
        loss = reconstruction_loss(images.float(), to_signed(pictures[rows]), settings.edge_weight)
        optimisation_step(team, optimiser, settings.learning_rate * rate, loss, [decoder])
        step += 1
        clock.tick()
        if team.leads:
            ema.update(decoder)
            if step % 50 == 0:
                log(f"decoder step {step} minutes {clock.minutes:.2f} loss {loss.item():.4f}")
    if team.leads:
        ema.copy_to(decoder)
        save_checkpoint(folder / "decoder.pt", step, {"vae": vae}, clock, samples=step * settings.batch)
