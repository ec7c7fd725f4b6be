"""Writes the model card of `tiny-controlnet`."""

# ruff: noqa: E501 (table rows and paragraphs are one line each in Markdown)

from collections.abc import Mapping
from typing import Any

from torch import nn

from ...files.images import THRESHOLD

VERDICT = """\
Judged by eye: the outlines are followed in all 20, fine inner lines loosely (the pizza's slices of sausage, the banana's stripes are lost).
"""

_CARD = """\
---
license: apache-2.0
library_name: diffusers
tags: [controlnet, stable-diffusion, emoji]
---
# tiny-controlnet

A ControlNet (Zhang et al. 2023, arXiv 2302.05543) for [tiny-sd](../tiny-sd/README.md) that follows edge maps of 64x64 pixels: white lines, one
pixel wide, on black. {parameters:,} parameters in the layout of Diffusers' `ControlNetModel`, in half precision.

```python
from PIL import Image
from sadaflow import Pipeline
pipe = Pipeline.from_pretrained("tiny-sd", controlnet="tiny-controlnet")
pipe("red apple", control=Image.open("edges.png")).images[0].save("apple.png")
```

`sadaflow.files.images.edge_maps` makes such maps from pictures.

## Training

`make tiny-controlnet`, on processor cores only: a copy of the U-Net's encoder, read by zero convolutions, learns on the pictures of tiny-sd
and their edges; the U-Net and the text model are not changed. {samples:,} samples in {minutes} minutes on {workers} processor cores, shared with
other work; loss {loss:.4f} (running mean). The exported weights are an exponential moving average.

Settings: {settings}. Smallest colour step that counts as an edge: {threshold:g} of its range.

`docs/tiny-controlnet-contact-sheet.png` shows tiny-sd's card prompts, drawn by DDIM in 25 steps at guidance 5 along the edges of displaced or
mirrored variants of their pictures.

{verdict}
## Limits

As for tiny-sd. The ControlNet was trained on edges only: it cannot follow drawings with filled shapes, grey lines or other line widths.
"""


def controlnet_card(
    net: nn.Module, facts: Mapping[str, Any], settings: Mapping[str, Any], workers: int
) -> str:
    """The card as Markdown text.

    Args:
        net: The ControlNet.
        facts: Facts that the training recorded.
        settings: Settings of the training.
        workers: Number of workers.
    """
    return _CARD.format(
        **facts,
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        settings=", ".join(f"{name} {value}" for name, value in settings.items()),
        workers=workers,
        threshold=THRESHOLD,
        verdict=VERDICT and VERDICT + "\n",
    )
