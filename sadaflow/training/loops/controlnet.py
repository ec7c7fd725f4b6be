"""Training of a ControlNet for a frozen U-Net on edge maps (Zhang et al. 2023, arXiv 2302.05543)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sadaflow.models import ControlledUNet, ControlNet, ControlNetConfig, UNet

from ...files.images import edge_maps
from .data_parallel import Team
from .diffusion import UNET_CONFIG, Data, alphas_cumprod, diffusion_loss
from .loop import averaged, restored, train_loop
from .sampler import CaptionSettings
from .state import Ema, Log, channels_last

_NOT_IN_CONTROLNET = ("center_input_sample", "out_channels", "sample_size", "up_block_types")

CONTROLNET_CONFIG: dict[str, Any] = {
    **{field: value for field, value in UNET_CONFIG.items() if field not in _NOT_IN_CONTROLNET},
    "_class_name": "ControlNetModel",
    "conditioning_channels": 3,
    "conditioning_embedding_out_channels": [16, 32, 64],
    "controlnet_conditioning_channel_order": "rgb",
    "global_pool_conditions": False,
}


@dataclass(frozen=True)
class ControlSettings(CaptionSettings):
    """Settings of the training of the ControlNet; see `DiffusionSettings`."""

    minutes: float = 14.0
    batch: int = 32
    warm_up_steps: int = 50
    learning_rate: float = 7e-4
    caption_dropout: float = 0.5  # as in the paper, so that the content must be read from the edges
    plain_pictures: float = 0.2
    snr_limit: float = 5.0
    compile: bool = True


@dataclass(frozen=True)
class ControlData(Data):
    """The training data of the ControlNet.

    Attributes:
        pictures: Pictures (N, variants, 3, H, W) of the latents, in bytes.
    """

    pictures: Tensor


def build(unet: UNet) -> ControlNet:
    """A ControlNet with the weights of the U-Net's encoder, whose output is zero."""
    net = ControlNet(ControlNetConfig.from_dict(CONTROLNET_CONFIG))
    net.load_state_dict({**net.state_dict(), **{k: v for k, v in unet.state_dict().items() if k in net.state_dict()}})
    for layer in (*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out):
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
    return channels_last(net)


def train_controlnet(
    team: Team,
    settings: ControlSettings,
    unet: UNet,
    text: Any,
    data: ControlData,
    folder: Path,
    log: Log,
    sheet: Callable[[ControlNet, Path], None],
) -> None:
    """Train the ControlNet; the result is folder/controlnet.pt.

    Args:
        team, settings, folder, log: See `train_diffusion`.
        unet: The frozen U-Net.
        text: The frozen text model.
        data: Latents, captions and pictures.
        sheet: `sheet(net, path)` writes a contact sheet of the averaged ControlNet.
    """
    torch.manual_seed(settings.seed)
    net = build(unet)
    models = nn.ModuleDict({"net": net})
    steered = ControlledUNet(channels_last(unet), [net])
    call = torch.compile(steered, dynamic=False) if settings.compile else steered
    table = alphas_cumprod()

    def loss(count: int, generator: torch.Generator) -> Tensor:
        choice = data.choose(count, settings, generator)
        tokens = data.tokens_of(choice, settings.caption_dropout, generator)
        edges = edge_maps(data.pictures[choice.rows, choice.variants].float() / 255)

        def predict(x: Tensor, timesteps: Tensor, context: Tensor) -> Any:
            return call(x, timesteps, context, control=edges[:, None], control_scales=(1.0,))

        latents = data.latents[choice.rows, choice.variants]
        return diffusion_loss(predict, text, latents, tokens, table, settings.snr_limit, generator)

    def show(ema: Ema, path: Path) -> None:
        fresh = build(unet)
        averaged(nn.ModuleDict({"net": fresh}), models, ema)
        sheet(fresh, path)

    train_loop(team, settings, models, loss, folder / "controlnet.pt", log, show)


def trained_controlnet(folder: Path, unet: UNet) -> ControlNet:
    """The averaged ControlNet that `train_controlnet` wrote to `folder`."""
    net = build(unet)
    restored(folder / "controlnet.pt", nn.ModuleDict({"net": net}))
    return net
