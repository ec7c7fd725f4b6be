"""Trains the embedded checkpoint `tiny-flux`: `python -m sadaflow.training.tiny_flux`.

The autoencoder, the CLIP text encoder and its tokenizer, the pictures and the captions are those of `tiny-sd`. The
stages are pictures, latents, T5 tokenizer, rectified flow, guidance distillation, and export. Each is stored in the
work folder and resumed from there. `--export` exports the last checkpoint, also during training.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sadaflow.families.base import autoencoder_config, build_autoencoder
from sadaflow.families.prompt_encoder import ClipText
from sadaflow.loading.checkpoint import Checkpoint
from sadaflow.models import Autoencoder

from .arguments import training_parser
from .data.captions import CARD_PROMPTS, PHRASINGS
from .data.emoji import Emoji, load_emoji
from .export.card import flux_card
from .export.contact_sheet import to_bytes, write_sheet
from .export.flux import GUIDANCE, write_flux_checkpoint
from .export.t5_tokenizer import load_t5_tokenizer, write_t5_tokenizer
from .loops.data_parallel import run_team
from .loops.flow import DistillationSettings, FlowData, FlowSettings, build, distil_guidance, train_flow
from .loops.loop import restored
from .loops.state import Log, write_value
from .loops.vae import encode
from .tiny_sd import CHECKPOINT as TINY_SD
from .tiny_sd import VARIANTS, make_pictures, phrasings, token_ids

CHECKPOINT = TINY_SD.with_name("tiny-flux")
VOCABULARY = 2048


def make_latents(pictures: Tensor, vae: Autoencoder, folder: Path) -> Tensor:
    """Scaled latents (N, variants, 4, 16, 16) of all pictures."""
    path = folder / "latents.pt"
    if not path.is_file():
        scaled = vae.config.scaling_factor * encode(vae, pictures.flatten(0, 1))
        write_value(path, scaled.unflatten(0, pictures.shape[:2]))
    latents: Tensor = torch.load(path, weights_only=True)
    return latents


@torch.no_grad()
def make_data(emoji: list[Emoji], latents: Tensor, tokenizer: Any, clip: ClipText) -> FlowData:
    """The training data of the transformer."""
    texts = phrasings(emoji)
    grid = (len(PHRASINGS), len(emoji), -1)
    flat = [text for row in texts for text in row]
    unique = list(dict.fromkeys(["", *flat]))
    pooled = torch.cat([clip.encode_pooled(unique[i : i + 512]) for i in range(0, len(unique), 512)])
    tokens = token_ids(tokenizer, unique)
    index_of = {text: index for index, text in enumerate(unique)}
    rows = torch.tensor([index_of[text] for text in flat])
    return FlowData(
        latents=latents,
        weights=torch.tensor([item.weight for item in emoji]),
        tokens=tokens[rows].reshape(*grid, tokens.shape[1]),
        pooled=pooled[rows].reshape(*grid, pooled.shape[1]),
        captions=torch.tensor([len(item.captions) for item in emoji]),
        empty_tokens=tokens[0],
        empty_pooled=pooled[0],
    )


@torch.no_grad()
def draw_flow(
    models: nn.ModuleDict,
    vae: Autoencoder,
    tokens: Tensor,
    pooled: Tensor,
    empty: tuple[Tensor, Tensor],
    guidance: float,
    true_guidance: float,
) -> Tensor:
    """Draw pictures by Euler's method in 25 steps, all from the same noise.

    Args:
        models: The "transformer" and "t5".
        vae: The autoencoder.
        tokens: T5 ids (B, L) of the prompts.
        pooled: Pooled CLIP states (B, D) of the prompts.
        empty: T5 ids (L,) and pooled CLIP state (D,) of the empty prompt.
        guidance: Guidance strength that the transformer embeds.
        true_guidance: Guidance strength against the empty prompt; 1 means none.

    Returns:
        Pictures (B, 3, H, W) in bytes.
    """
    noise = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(0))
    x = noise.repeat(len(tokens), 1, 1, 1)
    rows = torch.cat((tokens, empty[0].expand_as(tokens))), torch.cat((pooled, empty[1].expand_as(pooled)))
    count = 2 * len(tokens) if true_guidance != 1 else len(tokens)
    context = models["t5"](rows[0][:count])[0]
    line = torch.linspace(1, 0, 26)
    levels = line / (line + (1 - line) * torch.tensor(-0.5).exp())
    for sigma, following in zip(levels[:-1], levels[1:], strict=True):
        flow = models["transformer"](
            x.repeat(count // len(tokens), 1, 1, 1),
            1000 * sigma,
            context=context,
            pooled=rows[1][:count],
            guidance=torch.full((count,), guidance),
        )
        if true_guidance != 1:
            conditional, unconditional = flow.chunk(2)
            flow = unconditional + true_guidance * (conditional - unconditional)
        x = x + (following - sigma) * flow
    return to_bytes(vae.decode(x / vae.config.scaling_factor))


@dataclass(frozen=True)
class SheetMaker:
    """Writes contact sheets of the card's prompts.

    Attributes:
        vae: The autoencoder.
        tokens: T5 ids (B, L) of the prompts.
        pooled: Pooled CLIP states (B, D) of the prompts.
        empty: T5 ids (L,) and pooled CLIP state (D,) of the empty prompt.
    """

    vae: Autoencoder
    tokens: Tensor
    pooled: Tensor
    empty: tuple[Tensor, Tensor]

    def __call__(self, models: nn.ModuleDict, path: Path, guidance: float, true_guidance: float) -> None:
        pictures = draw_flow(models, self.vae, self.tokens, self.pooled, self.empty, guidance, true_guidance)
        write_sheet(path, pictures, CARD_PROMPTS)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = training_parser(__doc__, CHECKPOINT)
    parser.add_argument("--minutes", type=float, default=FlowSettings.minutes, help="end of the flow's training")
    parser.add_argument("--distil-minutes", type=float, default=DistillationSettings.minutes)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run the training from the command line."""
    options = parse(arguments)
    work: Path = options.work
    log = Log(work / "log.txt")
    source = Checkpoint(TINY_SD, None, torch.float32, torch.device("cpu"))
    vae = build_autoencoder(source, autoencoder_config(source))
    clip = ClipText.build(ClipText.prepare(source))
    source.fill()
    emoji = load_emoji()
    latents = make_latents(make_pictures(emoji, work), vae, work)
    if not (work / "tokenizer_2" / "tokenizer.json").is_file():
        write_t5_tokenizer([text for row in phrasings(emoji) for text in row], VOCABULARY, work / "tokenizer_2")
    tokenizer = load_t5_tokenizer(work / "tokenizer_2")
    data = make_data(emoji, latents, tokenizer, clip)
    prompts = list(CARD_PROMPTS)
    empty = (data.empty_tokens, data.empty_pooled)
    sheet = SheetMaker(vae, token_ids(tokenizer, prompts), clip.encode_pooled(prompts), empty)
    flow = FlowSettings(minutes=options.minutes, compile=not options.no_compile)
    distillation = DistillationSettings(minutes=options.distil_minutes, compile=not options.no_compile)
    if not options.export:
        run_team(options.workers, train_flow, flow, data, len(tokenizer), work, log, sheet)
        run_team(options.workers, distil_guidance, distillation, data, len(tokenizer), work, log, sheet)
    models = restored(work / "distilled.pt", build(len(tokenizer)))
    stages = {
        "flow": (asdict(flow), json.loads((work / "flow.json").read_text())),
        "distillation": (asdict(distillation), json.loads((work / "distilled.json").read_text())),
    }
    counts = {"pictures": len(emoji), "variants": VARIANTS, "workers": options.workers, "vocabulary": len(tokenizer)}
    card = flux_card(models, counts, stages)
    write_flux_checkpoint(options.out, models, TINY_SD, work / "tokenizer_2", card)
    sheet(models, options.sheet, GUIDANCE, 1.0)
    log(f"exported to {options.out}")


if __name__ == "__main__":
    main()
