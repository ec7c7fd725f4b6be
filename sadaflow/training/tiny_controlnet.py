"""Trains the embedded ControlNet `tiny-controlnet`: `python -m sadaflow.training.tiny_controlnet`.

It controls `tiny-sd` by edge maps of the pictures that `tiny-sd` was trained on. The stages are pictures, latents,
ControlNet, and export. Each is stored in the work folder and resumed from there. `--export` exports the last
checkpoint.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from sadaflow.families.stable_diffusion import StableDiffusion
from sadaflow.loading.checkpoint import Checkpoint
from sadaflow.models import Autoencoder, ControlledUNet, ControlNet, UNet

from ..files.images import edge_maps
from ..loading.hub.write import write_json
from .arguments import training_parser
from .data.captions import CARD_PROMPTS
from .data.emoji import load_emoji
from .export.card import controlnet_card
from .export.contact_sheet import ddim, to_bytes, write_sheet
from .export.stable_diffusion import LIBRARY_VERSION, write_tensors
from .loops.controlnet import (
    CONTROLNET_CONFIG,
    ControlData,
    ControlSettings,
    train_controlnet,
    trained_controlnet,
)
from .loops.data_parallel import run_team
from .loops.diffusion import alphas_cumprod
from .loops.state import Log
from .tiny_flux import make_latents
from .tiny_sd import CHECKPOINT as TINY_SD
from .tiny_sd import make_data, make_pictures

CHECKPOINT = TINY_SD.with_name("tiny-controlnet")


@dataclass(frozen=True)
class SheetMaker:
    """Writes contact sheets of the card's prompts, controlled by the edges of varied pictures.

    Attributes:
        unet: The U-Net.
        vae: The autoencoder.
        context: Hidden states (2B, L, width) of the empty prompt, then of the prompts.
        edges: Edge maps (B, 3, H, W).
    """

    unet: UNet
    vae: Autoencoder
    context: Tensor
    edges: Tensor

    @torch.no_grad()
    def __call__(self, net: ControlNet, path: Path) -> None:
        steered = ControlledUNet(self.unet, [net])
        control = self.edges.repeat(2, 1, 1, 1)[:, None]

        def predict(x: Tensor, timestep: int) -> Tensor:
            v: Tensor = steered(x, timestep, self.context, control=control, control_scales=(1.0,))
            return v

        latents = ddim(predict, len(self.edges), alphas_cumprod().float())
        pictures = to_bytes(self.vae.decode(latents / self.vae.config.scaling_factor))
        write_sheet(path, torch.cat((to_bytes(2 * self.edges - 1), pictures), dim=3), CARD_PROMPTS, columns=4)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = training_parser(__doc__, CHECKPOINT)
    parser.add_argument("--minutes", type=float, default=ControlSettings.minutes, help="end of the training")
    return parser.parse_args(arguments)


def _base() -> StableDiffusion:
    checkpoint = Checkpoint(TINY_SD, None, torch.float32, torch.device("cpu"))
    base = StableDiffusion.prepare(checkpoint)()
    checkpoint.fill()
    return base


def main(arguments: list[str] | None = None) -> None:
    """Run the training from the command line."""
    options = parse(arguments)
    work: Path = options.work
    log = Log(work / "log.txt")
    base = _base()
    emoji = load_emoji()
    pictures = make_pictures(emoji, work)
    captioned = make_data(emoji, make_latents(pictures, base.vae, work), base.text.tokenizer)
    data = ControlData(**vars(captioned), pictures=pictures)
    unet = base.backbone
    assert isinstance(unet, UNet)
    rows = [next(i for i, item in enumerate(emoji) if prompt in item.captions) for prompt in CARD_PROMPTS]
    context = base.text.encode([""] * len(CARD_PROMPTS) + list(CARD_PROMPTS))
    sheet = SheetMaker(unet, base.vae, context, edge_maps(pictures[rows, 1].float() / 255))
    settings = ControlSettings(minutes=options.minutes, compile=not options.no_compile)
    if not options.export:
        encoder = base.text.encoder
        run_team(options.workers, train_controlnet, settings, unet, encoder, data, work, log, sheet)
    net = trained_controlnet(work, unet)
    out: Path = options.out
    write_json(out / "config.json", {**CONTROLNET_CONFIG, "_diffusers_version": LIBRARY_VERSION})
    write_tensors(out / "diffusion_pytorch_model.safetensors", net.state_dict())
    facts = json.loads((work / "controlnet.json").read_text())
    (out / "README.md").write_text(controlnet_card(net, facts, asdict(settings), options.workers), encoding="utf-8")
    sheet(net, options.sheet)
    log(f"exported to {out}")


if __name__ == "__main__":
    main()
