"""The worst picture of every setting, small, beside the plain one: what a mean hides.

One PNG a case and setting, at most `SIDE` pixels a panel, whatever the number of samples.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...files.atomic import write_atomically
from ...files.images import to_pil
from ...files.png import encode_png, read_text
from ..suite.model import Case, Sample, Setting

SIDE = 256  # pixels
WORST = "worst"  # the folder's name in that of the bench


@dataclass(frozen=True)
class Worst:
    """`image` is plain and accelerated side by side, a PIL picture."""

    sample: Sample
    psnr: float  # dB
    nfe: float
    image: Any


def keep_worst(
    folder: Path,
    case: Case,
    setting: Setting,
    samples: Sequence[Sample],
    psnr: Sequence[float],
    nfe: Sequence[float],
    pictures: Tensor,
    reference: Tensor,
) -> None:
    """Keep the worst of a batch if it is worse than the one in `folder`; pictures that equal the plain ones are none.

    pictures, reference (B, 3, H, W) in [0, 1], or of sounds log-mel spectrograms (B, 1, frames, mels).
    """
    row = min(range(len(samples)), key=psnr.__getitem__)
    path = folder / _name(case, setting)
    if not math.isfinite(psnr[row]) or (path.exists() and float(read_text(path)["psnr"]) <= psnr[row]):
        return
    told = {"prompt": samples[row].prompt, "seed": samples[row].seed, "psnr": psnr[row], "nfe": nfe[row]}
    both = torch.cat([_small(reference[row], reference[row]), _small(pictures[row], reference[row])], dim=-1)
    content = encode_png(to_pil(both[None])[0], {key: str(value) for key, value in told.items()})
    folder.mkdir(exist_ok=True)
    write_atomically(path, content)


def worst(folder: Path, case: Case, setting: Setting) -> Worst | None:
    """What is kept of a setting, None where nothing is."""
    from PIL import Image

    path = folder / _name(case, setting)
    if not path.exists():
        return None
    told = read_text(path)
    with Image.open(path) as image:
        sample = Sample(told.get("prompt", ""), int(told["seed"]))
        return Worst(sample, float(told["psnr"]), float(told["nfe"]), image.convert("RGB"))


def _name(case: Case, setting: Setting) -> str:
    named = json.dumps([*astuple(case), setting.label])
    return f"{hashlib.sha256(named.encode()).hexdigest()[:24]}.png"


def _small(picture: Tensor, reference: Tensor) -> Tensor:
    """(3, h, w) in [0, 1]; a spectrogram over the reference's range, time from left to right, low notes below."""
    if picture.shape[0] == 1:
        low, high = reference.min(), reference.max()
        picture = ((picture - low) / (high - low)).clamp(0, 1).mT.flip(-2).expand(3, -1, -1)
    scale = SIDE / max(picture.shape[-2:])
    if scale >= 1:
        return picture
    size = [max(1, round(side * scale)) for side in picture.shape[-2:]]
    return interpolate(picture[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)
