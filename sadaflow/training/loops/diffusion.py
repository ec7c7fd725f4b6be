"""Trains a latent U-Net (v-prediction) together with its text model on captioned latents."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sadaflow.models import UNet, UNetConfig

from ..data.captions import MAX_LENGTH
from .data_parallel import Team
from .loop import averaged, restored, train_loop
from .sampler import CaptionSettings, Choice, choose
from .state import Ema, Log, channels_last

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
class DiffusionSettings(CaptionSettings):
    """Settings of the training of the U-Net and the text model.

    Attributes:
        snr_limit: Signal-to-noise ratio above which the loss is that of x0; see `loss_weight`.
        compile: Whether the network is compiled.
    """

    minutes: float = 80.0
    snr_limit: float = 5.0
    compile: bool = True


@dataclass(frozen=True)
class Data:
    """The training data of the U-Net.

    Attributes:
        latents: Latents (N, variants, 4, 16, 16); the first variant is the unvaried picture.
        weights: Sampling weights (N,).
        tokens: Token ids (P, N, C, L) of P phrasings of up to C captions; the first phrasing is the caption itself.
        captions: Number of captions (N,) of each picture.
        empty: Token ids (L,) of the empty caption.
    """

    latents: Tensor
    weights: Tensor
    tokens: Tensor
    captions: Tensor
    empty: Tensor

    def choose(self, count: int, settings: CaptionSettings, generator: torch.Generator) -> Choice:
        """Draw the pictures and captions of the next batch."""
        sizes = self.latents.shape[1], len(self.tokens)
        return choose(self.weights, self.captions, *sizes, count, settings, generator)

    def tokens_of(self, choice: Choice, dropout: float, generator: torch.Generator) -> Tensor:
        """Token ids (count, L) of the chosen captions; a fraction `dropout` is replaced by the empty caption."""
        tokens = self.tokens[choice.phrasing, choice.rows, choice.captions]
        dropped = torch.rand(len(tokens), generator=generator)[:, None] < dropout
        return torch.where(dropped, self.empty, tokens)


def alphas_cumprod() -> Tensor:
    """alpha^2 (T,) of the scaled-linear schedule of Stable Diffusion, in float64."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0)


def text_model(vocabulary: int, start: int, end: int) -> Any:
    """An untrained CLIP text model of the size of tiny-sd's."""
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


def stratified_timesteps(count: int, generator: torch.Generator) -> Tensor:
    """Random timesteps (count,), one from each of `count` equal parts of the range."""
    positions = torch.arange(count) + torch.rand(count, generator=generator)
    return (positions * (TIMESTEPS / count)).long().clamp(max=TIMESTEPS - 1)


def loss_weight(alpha_squared: Tensor, limit: float) -> Tensor:
    """Weight of the squared error of v: (min(SNR, limit) + 1) / (SNR + 1).

    It is 1 up to the limit; beyond it the loss is proportional to the squared error of x0, since the error of v is
    (SNR + 1) times that of x0. After Min-SNR (Hang et al. 2023, arXiv 2303.09556).

    Args:
        alpha_squared: alpha^2, any shape.
        limit: Largest signal-to-noise ratio with weight 1.
    """
    snr = alpha_squared / (1 - alpha_squared)
    return (snr.clamp(max=limit) + 1) / (snr + 1)


def diffusion_loss(
    unet: Any, text: Any, latents: Tensor, tokens: Tensor, table: Tensor, limit: float, generator: torch.Generator
) -> Tensor:
    """Mean weighted squared error of v = alpha eps - sigma x0 at stratified timesteps.

    Args:
        unet: The U-Net, called as `unet(x, timesteps, context)`.
        text: The text model.
        latents: Scaled latents (B, 4, 16, 16).
        tokens: Token ids (B, L).
        table: alpha^2 (T,).
        limit: See `loss_weight`.
        generator: Source of timesteps and noise.
    """
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
    """An untrained U-Net and text model; the start and end tokens are the last two of the vocabulary."""
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
    """Train the U-Net and the text model; the result is folder/diffusion-train.pt.

    Args:
        team: The workers.
        settings: The settings.
        data: Latents and captions.
        vocabulary: Number of tokens.
        folder: Folder to write to and to resume from.
        log: Writes progress.
        sheet: `sheet(unet, text, path)` writes a contact sheet of the averaged models.
    """
    torch.manual_seed(settings.seed)
    unet, text = build(vocabulary)
    for parameter in unet.conv_out.parameters():
        nn.init.zeros_(parameter)
    models = nn.ModuleDict({"unet": unet, "text": text})
    compiled = torch.compile(unet, dynamic=False) if settings.compile else unet
    table = alphas_cumprod()

    def loss(count: int, generator: torch.Generator) -> Tensor:
        choice = data.choose(count, settings, generator)
        tokens = data.tokens_of(choice, settings.caption_dropout, generator)
        latents = data.latents[choice.rows, choice.variants]
        return diffusion_loss(compiled, text, latents, tokens, table, settings.snr_limit, generator)

    def show(ema: Ema, path: Path) -> None:
        unet, text = build(vocabulary)
        averaged(nn.ModuleDict({"unet": unet, "text": text}), models, ema)
        sheet(unet, text, path)

    train_loop(team, settings, models, loss, folder / "diffusion-train.pt", log, show)


def trained_diffusion(folder: Path, vocabulary: int) -> tuple[UNet, Any]:
    """The averaged U-Net and text model that `train_diffusion` wrote to `folder`."""
    unet, text = build(vocabulary)
    restored(folder / "diffusion-train.pt", nn.ModuleDict({"unet": unet, "text": text}))
    return unet, text
