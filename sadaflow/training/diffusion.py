"""Joint training of a latent U-Net (v-prediction) and its text model on captioned latents."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sadaflow.models import UNet, UNetConfig

from .run import Clock, Ema, Log, channels_last, load_checkpoint, save_checkpoint
from .team import Team, mean_over
from .tokenizer import MAX_LENGTH

TEXT_WIDTH = 160

UNET_CONFIG = {
    "_class_name": "UNet2DConditionModel",
    "act_fn": "silu",
    "attention_head_dim": [1, 2, 2],
    "block_out_channels": [64, 128, 128],
    "center_input_sample": False,
    "cross_attention_dim": TEXT_WIDTH,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3,
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 1,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 16,
    "only_cross_attention": False,
    "out_channels": 4,
    "sample_size": 16,
    "up_block_types": ["CrossAttnUpBlock2D"] * 3,
    "use_linear_projection": True,
}

TIMESTEPS, BETA_START, BETA_END = 1000, 0.00085, 0.012


@dataclass(frozen=True)
class DiffusionSettings:
    """What decides the training of U-Net and text model; it ends after `minutes` or `samples`, whichever is first."""

    minutes: float = 80.0
    samples: int = 1_000_000
    batch: int = 64  # of all workers together
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warm_up_steps: int = 300
    cooldown: float = 0.35  # last part of the run, over which the learning rate falls to zero
    snr_limit: float = 5.0
    caption_dropout: float = 0.1
    plain_phrasing: float = 0.8  # part of the captions that come as they are
    plain_pictures: float = 0.5  # part of the pictures that come as they are, the others vary
    ema_decay: float = 0.999
    sheet_minutes: float = 10.0
    compile: bool = True
    seed: int = 2


@dataclass(frozen=True)
class Data:
    """Latents (N, variants, 4, 16, 16), sampling weights (N,) and token ids of the captions.

    The first variant is the plain picture. `tokens` (P, N, C, L) holds P phrasings of up to C captions of every
    picture, the first phrasing the caption itself; `captions` (N,) counts the valid ones. `empty` (L,) is the tokenised
    empty caption.
    """

    latents: Tensor
    weights: Tensor
    tokens: Tensor
    captions: Tensor
    empty: Tensor

    def draw(self, count: int, settings: DiffusionSettings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A batch of latents (count, 4, 16, 16) and token ids (count, L)."""

        def uniform() -> Tensor:
            return torch.rand(count, generator=generator)

        rows = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        variants = (uniform() * self.latents.shape[1]).long() * (uniform() >= settings.plain_pictures)
        captions = (uniform() * self.captions[rows]).long()
        others = 1 + (uniform() * (len(self.tokens) - 1)).long()
        phrasing = torch.where(uniform() < settings.plain_phrasing, 0, others)
        tokens = self.tokens[phrasing, rows, captions]
        dropped = uniform()[:, None] < settings.caption_dropout
        return self.latents[rows, variants], torch.where(dropped, self.empty, tokens)


def alphas_cumprod() -> Tensor:
    """Products alpha^2 (T,) in float64 of the scaled-linear schedule of Stable Diffusion."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0)


def text_model(vocabulary: int, start: int, end: int) -> Any:
    """An untrained CLIP text model of the size that `tiny-sd` uses."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=5,
            max_position_embeddings=MAX_LENGTH,
            hidden_act="gelu",
            bos_token_id=start,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def learning_rate_factor(step: int, progress: float, settings: DiffusionSettings) -> float:
    """Linear warm-up, constant, then linear to zero over the last part of the run."""
    return min(1.0, (step + 1) / settings.warm_up_steps, max(0.0, 1 - progress) / settings.cooldown)


def stratified_timesteps(count: int, generator: torch.Generator) -> Tensor:
    """Timesteps (count,), one from each of `count` equal parts of the range."""
    places = torch.arange(count) + torch.rand(count, generator=generator)
    return (places * (TIMESTEPS / count)).long().clamp(max=TIMESTEPS - 1)


def loss_weight(alpha_squared: Tensor, limit: float) -> Tensor:
    """Weight of the squared error of v: 1 up to the signal-to-noise ratio `limit`, that of x0 beyond it.

    After Min-SNR (Hang et al. 2023, arXiv 2303.09556), with SNR + 1 for SNR: v's error is (SNR + 1) times x0's.
    """
    snr = alpha_squared / (1 - alpha_squared)
    return (snr.clamp(max=limit) + 1) / (snr + 1)


def diffusion_loss(
    unet: Any, text: Any, latents: Tensor, tokens: Tensor, table: Tensor, limit: float, generator: torch.Generator
) -> Tensor:
    """Mean weighted squared error of v = alpha eps - sigma x0 at stratified timesteps; `table` is alpha^2 (T,)."""
    timesteps = stratified_timesteps(len(latents), generator)
    squared = table[timesteps].float()[:, None, None, None]
    alpha, sigma = squared.sqrt(), (1 - squared).sqrt()
    eps = torch.randn(latents.shape, generator=generator)
    x = (alpha * latents + sigma * eps).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        prediction = unet(x, timesteps, text(tokens).last_hidden_state)
    error = (prediction.float() - (alpha * eps - sigma * latents)).square()
    return (loss_weight(squared, limit) * error).mean()


def build(vocabulary: int) -> tuple[UNet, Any]:
    """Untrained U-Net and text model; start and end are the vocabulary's last two entries."""
    unet = channels_last(UNet(UNetConfig.from_dict(UNET_CONFIG)))
    return unet, text_model(vocabulary, vocabulary - 2, vocabulary - 1)


def train_diffusion(
    team: Team,
    settings: DiffusionSettings,
    data: Data,
    vocabulary: int,
    folder: Path,
    log: Log,
    sheet: Callable[[UNet, Any, Path], None],
) -> None:
    """Train into folder/diffusion-train.pt, resuming from there.

    The leader calls `sheet(unet, text, path)` with the averaged models every `sheet_minutes`.
    """
    torch.manual_seed(settings.seed)
    unet, text = build(vocabulary)
    for parameter in unet.conv_out.parameters():
        nn.init.zeros_(parameter)
    models = nn.ModuleDict({"unet": unet, "text": text})
    ema = Ema(models, settings.ema_decay)
    optimiser = torch.optim.AdamW(
        models.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=settings.weight_decay
    )
    state = {"models": models, "ema": ema, "optimiser": optimiser}
    clock, path = Clock(settings.minutes), folder / "diffusion-train.pt"
    step = load_checkpoint(path, state, clock)
    compiled = torch.compile(unet, dynamic=False) if settings.compile else unet
    table, running, saved = alphas_cumprod(), math.nan, clock.minutes
    next_sheet = clock.minutes + settings.sheet_minutes
    while (progress := max(team.agree(clock.progress), step * settings.batch / settings.samples)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * learning_rate_factor(step, progress, settings)
        generator = team.generator(settings.seed, step)
        latents, tokens = data.draw(settings.batch // team.size, settings, generator)
        loss = diffusion_loss(compiled, text, latents, tokens, table, settings.snr_limit, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        team.average_gradients([models])
        torch.nn.utils.clip_grad_norm_(models.parameters(), 1.0)
        optimiser.step()
        step += 1
        clock.tick()
        value = mean_over(team, loss)
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value} at step {step}; lower learning_rate and resume")
        running = value if math.isnan(running) else 0.99 * running + 0.01 * value
        if team.leads:
            ema.update(models)
            if step % 100 == 0:
                log(f"unet step {step} samples {step * settings.batch} minutes {clock.minutes:.2f} loss {running:.4f}")
            if clock.minutes - saved > 3:
                saved = clock.minutes
                save_checkpoint(path, step, state, clock, loss=running, samples=step * settings.batch)
            if clock.minutes > next_sheet:
                next_sheet += settings.sheet_minutes
                sheet(*averaged(models, ema, vocabulary), folder / f"sheet-{round(clock.minutes):03d}.png")
    if team.leads:
        save_checkpoint(path, step, state, clock, loss=running, samples=step * settings.batch)
        log(f"unet done: step {step} samples {step * settings.batch} minutes {clock.minutes:.2f} loss {running:.4f}")


def averaged(models: nn.ModuleDict, ema: Ema, vocabulary: int) -> tuple[UNet, Any]:
    """Fresh modules with the averaged parameters (and the buffers of `models`)."""
    unet, text = build(vocabulary)
    fresh = nn.ModuleDict({"unet": unet, "text": text})
    fresh.load_state_dict(models.state_dict())
    ema.copy_to(fresh)
    fresh.eval().requires_grad_(False)
    return unet, text


def trained_diffusion(folder: Path, vocabulary: int) -> tuple[UNet, Any]:
    """The averaged U-Net and text model that `train_diffusion` left in `folder`."""
    unet, text = build(vocabulary)
    models = nn.ModuleDict({"unet": unet, "text": text})
    ema = Ema(models, 0.0)
    load_checkpoint(folder / "diffusion-train.pt", {"models": models, "ema": ema}, Clock(1))
    return averaged(models, ema, vocabulary)
