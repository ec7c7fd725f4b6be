"""Trains the embedded checkpoint `tiny-sd` from random weights: `python -m sadaflow.training.tiny_sd`.

The stages are pictures, autoencoder and latents, decoder, tokenizer, U-Net with text model, and export. Each is stored
in the work folder and resumed from there. `--export` exports the last checkpoint, also during training.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sadaflow.models import Autoencoder, AutoencoderConfig, UNet

from ..loading.hub.write import write_json
from .arguments import training_parser
from .data.captions import CARD_PROMPTS, PHRASINGS
from .data.emoji import EVERYDAY_WEIGHT, Emoji, load_emoji, render
from .export.card import Facts
from .export.contact_sheet import draw_prompts, write_sheet
from .export.stable_diffusion import write_checkpoint
from .export.tokenizer import load_tokenizer, train_tokenizer
from .loops.data_parallel import run_team
from .loops.decoder import DecoderSettings, refine_decoder
from .loops.diffusion import UNET_CONFIG, Data, DiffusionSettings, train_diffusion, trained_diffusion
from .loops.state import Clock, Log, load_checkpoint, write_value
from .loops.vae import (
    VAE_CONFIG,
    VaeSettings,
    encode,
    psnr,
    standardise,
    train_vae,
    trained_vae,
)

SIZE = 64
VARIANTS = 8
VOCABULARY = 2048
CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "tiny-sd"


def make_pictures(emoji: list[Emoji], folder: Path) -> Tensor:
    """Stage 1: pictures (N, VARIANTS, 3, 64, 64) in bytes."""
    path = folder / "pictures.pt"
    if not path.is_file():
        write_value(path, render(emoji, SIZE, VARIANTS, seed=0))
    pictures: Tensor = torch.load(path, weights_only=True)
    return pictures


def make_vae(
    pictures: Tensor, emoji: list[Emoji], settings: VaeSettings, workers: int, folder: Path, log: Log
) -> tuple[Autoencoder, Tensor]:
    """Stage 2: the autoencoder with standardised latents, and the scaled latents (N, variants, 4, 16, 16)."""
    path = folder / "vae.pt"
    if not path.is_file():
        flat = pictures.flatten(0, 1)
        run_team(workers, train_vae, settings, flat, picture_weights(emoji, pictures), folder, log)
        vae = trained_vae(folder)
        raw = encode(vae, pictures.flatten(0, 1))
        factor = standardise(vae, raw)
        quality = psnr(vae, pictures[:, 0])
        log(f"vae done: {quality:.2f} dB over the {len(pictures)} plain pictures, scaling factor {factor:.5f}")
        std, mean = torch.std_mean(raw, dim=(0, 2, 3), keepdim=True)
        latents = ((raw - mean) / std).unflatten(0, pictures.shape[:2])
        write_value(path, {"weights": vae.state_dict(), "factor": factor, "latents": latents})
        write_json(folder / "vae.json", {**json.loads((folder / "vae-train.json").read_text()), "psnr": quality})
    stored = torch.load(path, weights_only=True)
    vae = Autoencoder(AutoencoderConfig.from_dict({**VAE_CONFIG, "scaling_factor": stored["factor"]}))
    vae.load_state_dict(stored["weights"])
    return vae.eval().requires_grad_(False), stored["latents"]


def make_decoder(
    vae: Autoencoder,
    latents: Tensor,
    pictures: Tensor,
    emoji: list[Emoji],
    settings: DecoderSettings,
    workers: int,
    folder: Path,
    log: Log,
) -> None:
    """Stage 3: trains the decoder of `vae` further on the latents of the pictures."""
    path = folder / "decoder.pt"
    done = path.is_file()
    if not done:
        flat, weights = pictures.flatten(0, 1), picture_weights(emoji, pictures)
        run_team(workers, refine_decoder, settings, vae, latents.flatten(0, 1), flat, weights, folder, log)
    load_checkpoint(path, {"vae": vae}, Clock(1))
    vae.eval().requires_grad_(False)
    if not done:
        quality = psnr(vae, pictures[:, 0])
        log(f"decoder done: {quality:.2f} dB over the {len(pictures)} plain pictures")
        path.with_suffix(".json").write_text(
            json.dumps({**json.loads(path.with_suffix(".json").read_text()), "psnr": quality}) + "\n"
        )


def picture_weights(emoji: list[Emoji], pictures: Tensor) -> Tensor:
    """Sampling weights of all variants for the autoencoder: the square roots of the U-Net's."""
    return torch.tensor([item.weight**0.5 for item in emoji]).repeat_interleave(pictures.shape[1])


def make_tokenizer(emoji: list[Emoji], folder: Path) -> Any:
    """Stage 4: the tokenizer, learned from all captions in all phrasings."""
    if not (folder / "tokenizer" / "tokenizer.json").is_file():
        texts = [phrase.format(caption) for item in emoji for caption in item.captions for phrase in PHRASINGS]
        train_tokenizer(texts, VOCABULARY, folder / "tokenizer")
    return load_tokenizer(folder / "tokenizer")


def phrasings(emoji: list[Emoji]) -> list[list[str]]:
    """All captions in every phrasing: P lists of N * C texts; fewer than C captions are repeated."""
    most = max(len(item.captions) for item in emoji)
    padded = [(item.captions * most)[:most] for item in emoji]
    return [[phrase.format(caption) for row in padded for caption in row] for phrase in PHRASINGS]


def token_ids(tokenizer: Any, texts: list[str]) -> Tensor:
    """Token ids (B, L) of texts, padded and truncated."""
    ids: Tensor = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return ids


def make_data(emoji: list[Emoji], latents: Tensor, tokenizer: Any) -> Data:
    """The training data of the U-Net."""
    return Data(
        latents=latents,
        weights=torch.tensor([item.weight for item in emoji]),
        tokens=torch.stack([token_ids(tokenizer, texts) for texts in phrasings(emoji)]).unflatten(1, (len(emoji), -1)),
        captions=torch.tensor([len(item.captions) for item in emoji]),
        empty=token_ids(tokenizer, [""])[0],
    )


@dataclass(frozen=True)
class SheetMaker:
    """Writes contact sheets of the card's prompts.

    Attributes:
        vae: The autoencoder.
        tokens: Token ids (B, L) of the prompts.
        empty: Token ids (L,) of the empty prompt.
    """

    vae: Autoencoder
    tokens: Tensor
    empty: Tensor

    def __call__(self, unet: UNet, text: Any, path: Path) -> None:
        write_sheet(path, draw_prompts(unet, text, self.vae, self.tokens, self.empty), CARD_PROMPTS)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = training_parser(__doc__, CHECKPOINT)
    parser.add_argument("--vae-minutes", type=float, default=VaeSettings.minutes)
    parser.add_argument("--minutes", type=float, default=DiffusionSettings.minutes, help="end of the U-Net's training")
    parser.add_argument("--samples", type=int, default=DiffusionSettings.samples, help="end of the U-Net's training")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run the training from the command line."""
    options = parse(arguments)
    work: Path = options.work
    log = Log(work / "log.txt")
    emoji = load_emoji()
    pictures = make_pictures(emoji, work)
    vae_settings = VaeSettings(minutes=options.vae_minutes)
    vae, latents = make_vae(pictures, emoji, vae_settings, options.workers, work, log)
    decoder_settings = DecoderSettings()
    make_decoder(vae, latents, pictures, emoji, decoder_settings, options.workers, work, log)
    tokenizer = make_tokenizer(emoji, work)
    data = make_data(emoji, latents, tokenizer)
    sheet = SheetMaker(vae, token_ids(tokenizer, list(CARD_PROMPTS)), data.empty)
    settings = DiffusionSettings(minutes=options.minutes, samples=options.samples, compile=not options.no_compile)
    if not options.export:
        run_team(options.workers, train_diffusion, settings, data, len(tokenizer), work, log, sheet)
    unet, text = trained_diffusion(work, len(tokenizer))
    models = {"unet_parameters": unet, "vae_parameters": vae, "text_parameters": text}
    counts = {name: sum(parameter.numel() for parameter in model.parameters()) for name, model in models.items()}
    counts |= {"pictures": len(emoji), "variants": VARIANTS, "workers": options.workers, "weight": int(EVERYDAY_WEIGHT)}
    counts["everyday"] = sum(item.weight > 1 for item in emoji)
    facts = Facts(
        counts=counts,
        vae=json.loads((work / "vae.json").read_text()),
        decoder=json.loads((work / "decoder.json").read_text()),
        diffusion=json.loads((work / "diffusion-train.json").read_text()),
        vae_settings=asdict(vae_settings),
        decoder_settings=asdict(decoder_settings),
        diffusion_settings=asdict(settings),
        unet_config=UNET_CONFIG,
        vae_config=VAE_CONFIG,
        text_config=text.config.to_dict(),
    )
    write_checkpoint(options.out, unet, vae, text, work / "tokenizer", facts)
    sheet(unet, text, options.sheet)
    log(f"exported to {options.out}")


if __name__ == "__main__":
    main()
