"""Trains a small KL autoencoder (Rombach et al. 2022, arXiv 2112.10752, without perceptual and adversarial losses)."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sadaflow.models import Autoencoder, AutoencoderConfig

from .data_parallel import Team
from .loop import optimisation_step
from .state import Clock, Ema, Log, channels_last, load_checkpoint, save_checkpoint

VAE_CONFIG = {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "block_out_channels": [32, 64, 128],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "force_upcast": False,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 1,
    "mid_block_add_attention": True,
    "norm_num_groups": 16,
    "out_channels": 3,
    "sample_size": 64,
    "scaling_factor": 1.0,
    "shift_factor": 0.0,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "use_post_quant_conv": True,
    "use_quant_conv": True,
}


@dataclass(frozen=True)
class VaeSettings:
    """Settings of the training of the autoencoder.

    Attributes:
        minutes: Minutes of training.
        batch: Samples per step, of all workers together.
        learning_rate: Largest learning rate.
        warm_up_steps: Steps over which the learning rate rises.
        kl_weight: Weight of the KL divergence.
        edge_weight: Weight of the differences between neighbours; see `reconstruction_loss`.
        colour_permutation: Fraction of pictures with permuted colours; see `mixed_colours`.
        ema_decay: Decay of the moving average of the weights per step.
        seed: Seed of weights and data.
    """

    minutes: float = 14.0
    batch: int = 24
    learning_rate: float = 1e-3
    warm_up_steps: int = 100
    kl_weight: float = 1e-5
    edge_weight: float = 1.0
    colour_permutation: float = 0.3
    ema_decay: float = 0.995
    seed: int = 1


def to_signed(pictures: Tensor) -> Tensor:
    """Convert bytes to float32 in [-1, 1]."""
    return pictures.to(torch.float32) / 127.5 - 1


def reconstruction_loss(images: Tensor, target: Tensor, edge_weight: float) -> Tensor:
    """Mean squared error, plus mean absolute errors of colours and of neighbours' differences at three scales."""
    loss = F.mse_loss(images, target)
    for _ in range(3):
        loss = loss + F.l1_loss(images, target)
        for axis in (-1, -2):
            loss = loss + edge_weight / 3 * F.l1_loss(images.diff(dim=axis), target.diff(dim=axis))
        images, target = F.avg_pool2d(images, 2), F.avg_pool2d(target, 2)
    return loss


def kl_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence of the posterior from the unit normal, summed per sample and averaged over the batch."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum((1, 2, 3)).mean()


def mixed_colours(pictures: Tensor, part: float, generator: torch.Generator) -> Tensor:
    """Permute the colour channels of a random fraction `part` of pictures (B, 3, H, W), to train rare hues as well."""
    order = torch.rand(len(pictures), 3, generator=generator).argsort(dim=1)
    keep = torch.rand(len(pictures), 1, generator=generator) >= part
    order = torch.where(keep, torch.arange(3), order)
    return pictures.gather(1, order[:, :, None, None].expand_as(pictures))


def train_vae(team: Team, settings: VaeSettings, pictures: Tensor, weights: Tensor, folder: Path, log: Log) -> None:
    """Train the autoencoder; the result is folder/vae-train.pt.

    Args:
        team: The workers.
        settings: The settings.
        pictures: Pictures (N, 3, H, W) in bytes.
        weights: Sampling weights (N,) of the pictures.
        folder: Folder to write to and to resume from.
        log: Writes progress.
    """
    torch.manual_seed(settings.seed)
    vae = channels_last(Autoencoder(AutoencoderConfig.from_dict(VAE_CONFIG)))
    ema = Ema(vae, settings.ema_decay)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=1e-3)
    state = {"vae": vae, "ema": ema, "optimiser": optimiser}
    clock = Clock(settings.minutes)
    step = load_checkpoint(folder / "vae-train.pt", state, clock)
    while (progress := team.agree(clock.progress)) < 1:
        rate = min(1, (step + 1) / settings.warm_up_steps) * min(1, 2 * (1 - progress) + 0.01)
        generator = team.generator(settings.seed, step)
        rows = torch.multinomial(weights, settings.batch // team.size, replacement=True, generator=generator)
        batch = mixed_colours(pictures[rows], settings.colour_permutation, generator)
        target = to_signed(batch).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            mean, logvar = vae.encode(target)
            noise = torch.randn(mean.shape, generator=generator)
            images = vae.decode(mean + noise * (0.5 * logvar).exp())
        loss = reconstruction_loss(images.float(), target, settings.edge_weight)
        loss = loss + settings.kl_weight * kl_divergence(mean.float(), logvar.float())
        optimisation_step(team, optimiser, settings.learning_rate * rate, loss, [vae])
        step += 1
        clock.tick()
        if team.leads:
            ema.update(vae)
            if step % 50 == 0:
                log(f"vae step {step} minutes {clock.minutes:.2f} loss {loss.item():.4f}")
            if step % 250 == 0:
                save_checkpoint(folder / "vae-train.pt", step, state, clock, samples=step * settings.batch)
    if team.leads:
        save_checkpoint(folder / "vae-train.pt", step, state, clock, samples=step * settings.batch)


def trained_vae(folder: Path) -> Autoencoder:
    """The averaged autoencoder that `train_vae` wrote to `folder`."""
    vae = Autoencoder(AutoencoderConfig.from_dict(VAE_CONFIG))
    ema = Ema(vae, 0.0)
    load_checkpoint(folder / "vae-train.pt", {"vae": vae, "ema": ema}, Clock(1))
    ema.copy_to(vae)
    return channels_last(vae.eval().requires_grad_(False))


@torch.no_grad()
def psnr(vae: Autoencoder, pictures: Tensor, batch: int = 64) -> float:
    """Mean PSNR in dB of reconstructions from the posterior means of pictures (N, 3, H, W) in bytes."""
    total = 0.0
    for part in pictures.split(batch):
        images = vae(to_signed(part).contiguous(memory_format=torch.channels_last)).clamp(-1, 1)
        error = (images - to_signed(part)).square().mean((1, 2, 3)) / 4
        total += float((-10 * error.log10()).sum())
    return total / len(pictures)


@torch.no_grad()
def encode(vae: Autoencoder, pictures: Tensor, batch: int = 64) -> Tensor:
    """Unscaled posterior means (N, C, h, w) of pictures (N, 3, H, W) in bytes."""
    parts = (to_signed(part).contiguous(memory_format=torch.channels_last) for part in pictures.split(batch))
    return torch.cat([vae.encode(part)[0] for part in parts])


@torch.no_grad()
def standardise(vae: Autoencoder, latents: Tensor) -> float:
    """Standardise the latents of an autoencoder by an affine map, which is merged into its quant convolutions.

    Every channel gets mean 0 and the same standard deviation: the root mean square of the channels' current ones.
    Reconstructions from the posterior means do not change.

    Args:
        vae: The autoencoder, which is changed.
        latents: Unscaled latents (N, C, h, w).

    Returns:
        The scaling factor that gives the new latents standard deviation 1.

    Raises:
        ValueError: If the autoencoder has no quant convolutions.
    """
    channels = latents.shape[1]
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    common = float(std.square().mean().sqrt())
    gain = common / std
    weight, bias = _affine(vae.quant_conv)
    bias[:channels] = (bias[:channels] - mean) * gain
    weight[:channels] *= gain[:, None, None, None]
    bias[channels:] += 2 * gain.log()
    weight, bias = _affine(vae.post_quant_conv)
    bias += weight[:, :, 0, 0] @ mean
    weight /= gain[None, :, None, None]
    return 1 / common


def _affine(layer: nn.Module) -> tuple[Tensor, Tensor]:
    if not isinstance(layer, nn.Conv2d) or layer.bias is None:
        raise ValueError("standardise needs an autoencoder with use_quant_conv and use_post_quant_conv")
    return layer.weight, layer.bias
