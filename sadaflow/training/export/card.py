"""Writes the model card of `tiny-sd`."""

# ruff: noqa: E501 (table rows and paragraphs are one line each in Markdown)

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..data.captions import CARD_PROMPTS

# Differences of the run that made the published weights from the settings, and a judgement of its contact sheet.
HISTORY = """\
The published weights come from a run that was stopped and resumed under changed settings: the autoencoder's first 500 steps
had no colour term at the coarser scales; up to U-Net sample 143,424 all variants were equally likely (now `plain_pictures` of them
are unvaried); and the end was moved from 97 to 80 minutes at minute 60, so that the cooldown began there, at 0.71 of the full rate.
"""
VERDICT = """\
Drawn by DDIM in 25 steps at guidance 5 and seed 0; judged by eye with the prompts known, 18 of 20 are recognisable. The
strawberry is doubtful (its leaves are brown) and the watermelon fails (a brown slice: the autoencoder loses green beside red).
"""

_CARD = """\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
tags: [stable-diffusion, text-to-image, emoji]
---
# tiny-sd

A text-to-image latent diffusion model small enough to ship inside a Python package: {millions:.1f} million parameters, 64x64
pictures of emoji, about one second per picture of 50 guided steps on one processor core. Samplers and accelerators can be tried and
tested with it on a trained checkpoint without a download. The files are in the layout of Diffusers'
`StableDiffusionPipeline`, in half precision.

```python
from sadaflow import Pipeline
Pipeline.from_pretrained()("red apple").images[0].save("apple.png")
```

| part | architecture | parameters |
|---|---|---|
| `unet` | UNet2DConditionModel, channels {unet_channels}, one layer per block, cross-attention at every level, linear projections, predicts v | {unet_parameters:,} |
| `vae` | AutoencoderKL, channels {vae_channels}, 64x64x3 to 16x16x4 | {vae_parameters:,} |
| `text_encoder` | CLIPTextModel, {text_layers} layers of width {text_width}, {length} tokens, trained from scratch with the U-Net | {text_parameters:,} |
| `tokenizer` | CLIPTokenizer with a byte-pair vocabulary of {vocabulary} entries learned from the captions | |
| `scheduler` | DPMSolverMultistepScheduler, 1000 scaled-linear betas from 0.00085 to 0.012 | |

## Data

{pictures} colour emoji, drawn from the font Noto Color Emoji (Google; SIL Open Font License 1.1; Debian package
`fonts-noto-color-emoji`) on white at 64x64, with {variants} variants each in place and scale (mirrored where the caption names no
direction and no writing). Captions are the Unicode names of the characters in lower case and synonyms; a short table replaces Unicode
names that describe old print. {everyday} everyday things, most of those with synonyms, are drawn {weight:g} times as often as the others.
Letters, digits, flags, clock faces and skin tones are left out.

## Training

`make tiny-sd`, on processor cores only. The result depends on the font, the settings below, rounding, and the number of steps that fit into the minutes.

| | autoencoder | its decoder alone | U-Net and text model |
|---|---|---|---|
| samples | {vae_samples:,} | {decoder_samples:,} | {samples:,} |
| minutes on {workers} processor cores, shared with other work | {vae_minutes} | {decoder_minutes} | {minutes} |
| result | {encoded:.2f} dB PSNR over the {pictures} unvaried pictures | {psnr:.2f} dB | loss {loss:.4f} (running mean) |

Settings of the autoencoder: {vae_settings}.

Settings of its decoder, trained further on the latents that the U-Net learns from: {decoder_settings}.

Settings of the U-Net and the text model: {settings}.

The loss of the U-Net is the squared error of v and, above a signal-to-noise ratio of {limit:g} that of x0. Timesteps are stratified within a
batch; the exported weights are an exponential moving average. The affine map that centres the latents and gives their channels
one standard deviation is part of the autoencoder's quant convolutions.

{history}## Prompts of the contact sheet

`docs/tiny-sd-contact-sheet.png`: {prompts}.

{verdict}
## Limits

The model draws emoji only. It was trained on the very pictures that its prompts name, so it mostly reproduces training pictures:
results say nothing about generalisation, diversity or the quality of larger models. Prompts that combine things ("a cat on a
rocket"), counts, and words outside the captions give blends or arbitrary emoji. So do many of the emoji that were sampled at the
ordinary weight ("accordion", "beaver"); it has learned the everyday things. The autoencoder blurs small details and loses hues that
are rare beside others. At guidance 5 some backgrounds are faintly tinted.
"""


@dataclass(frozen=True)
class Facts:
    """Facts about a training for its card.

    Attributes:
        counts: Numbers of pictures, parameters, workers and the like, by name.
        vae: Facts that the training of the autoencoder recorded.
        decoder: Likewise of its decoder.
        diffusion: Likewise of the U-Net and the text model.
        vae_settings: Settings of the training of the autoencoder.
        decoder_settings: Likewise of its decoder.
        diffusion_settings: Likewise of the U-Net and the text model.
        unet_config: Config of the U-Net.
        vae_config: Config of the autoencoder.
        text_config: Config of the text model.
    """

    counts: Mapping[str, int]
    vae: Mapping[str, Any]
    decoder: Mapping[str, Any]
    diffusion: Mapping[str, Any]
    vae_settings: Mapping[str, Any]
    decoder_settings: Mapping[str, Any]
    diffusion_settings: Mapping[str, Any]
    unet_config: Mapping[str, Any]
    vae_config: Mapping[str, Any]
    text_config: Mapping[str, Any]


def model_card(facts: Facts) -> str:
    """The card as Markdown text."""

    def listed(settings: Mapping[str, Any]) -> str:
        return ", ".join(f"{name} {value}" for name, value in settings.items())

    def channels(config: Mapping[str, Any]) -> str:
        return "/".join(map(str, config["block_out_channels"]))

    counts = facts.counts
    return _CARD.format(
        **counts,
        millions=(counts["unet_parameters"] + counts["vae_parameters"] + counts["text_parameters"]) / 1e6,
        unet_channels=channels(facts.unet_config),
        vae_channels=channels(facts.vae_config),
        text_layers=facts.text_config["num_hidden_layers"],
        text_width=facts.text_config["hidden_size"],
        vocabulary=facts.text_config["vocab_size"],
        length=facts.text_config["max_position_embeddings"],
        vae_samples=facts.vae["samples"],
        vae_minutes=facts.vae["minutes"],
        encoded=facts.vae["psnr"],
        psnr=facts.decoder["psnr"],
        decoder_samples=facts.decoder["samples"],
        decoder_minutes=facts.decoder["minutes"],
        decoder_settings=listed(facts.decoder_settings),
        samples=facts.diffusion["samples"],
        minutes=facts.diffusion["minutes"],
        loss=facts.diffusion["loss"],
        limit=facts.diffusion_settings["snr_limit"],
        vae_settings=listed(facts.vae_settings),
        settings=listed(facts.diffusion_settings),
        prompts=", ".join(CARD_PROMPTS),
        history=HISTORY and HISTORY + "\n",
        verdict=VERDICT and VERDICT + "\n",
    )
