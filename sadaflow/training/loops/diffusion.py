"""Joint training of a latent U-Net (v-prediction) and its text model on captioned latents."""

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
    """What decides the training of U-Net and text model."""

    minutes: float = 80.0
    snr_limit: float = 5.0
    compile: bool = True


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

    def choose(self, count: int, settings: CaptionSettings, generator: torch.Generator) -> Choice:
        """Which pictures and captions the next batch has."""
        sizes = self.latents.shape[1], len(self.tokens)
        return choose(self.weights, self.captions, *sizes, count, settings, generator)

    def tokens_of(self, choice: Choice, dropout: float, generator: torch.Generator) -> Tensor:
        """Token ids (count, L) of the chosen captions, some dropped for the empty one."""
        tokens = self.tokens[choice.phrasing, choice.rows, choice.captions]
        dropped = torch.rand(len(tokens), generator=generator)[:, None] < dropout
        return torch.where(dropped, self.empty, tokens)


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
    """Train into folder/diffusion-train.pt; `sheet(unet, text, picture path)` shows the averaged models."""
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
    """The averaged U-Net and text model that `train_diffusion` left in `folder`."""
    unet, text = build(vocabulary)
    restored(folder / "diffusion-train.pt", nn.ModuleDict({"unet": unet, "text": text}))
    return unet, text
