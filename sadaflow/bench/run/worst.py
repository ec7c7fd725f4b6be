"""Keeps the worst picture of every setting, small, beside the plain picture: a mean hides it.

There is one PNG file per case and setting, with at most `SIDE` pixels per panel.
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
from ...files.own_json import read_bytes
from ...files.png import encode_png, read_text
from ..suite.model import Case, Sample, Setting

SIDE = 256  # pixels


@dataclass(frozen=True)
class Worst:
    """The worst sample of a setting.

    Attributes:
        sample: Prompt and seed.
        psnr: PSNR against the plain picture, in dB.
        nfe: Network evaluations.
        image: PIL picture: plain and accelerated side by side.
    """

    sample: Sample
    psnr: float
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
    """Keeps the worst picture of a batch if it is worse than the picture in `folder`.

    Nothing is written if all pictures of the batch equal the plain ones.

    Args:
        folder: Folder of the worst pictures.
        case: The case.
        setting: The setting.
        samples: Prompts and seeds of the batch.
        psnr: PSNR of each sample in dB.
        nfe: Network evaluations of each sample.
        pictures: (B, 3, H, W) in [0, 1], or of sounds log-mel spectrograms (B, 1, frames, mels).
        reference: Pictures of the plain run, the same shape.
    """
    row = min(range(len(samples)), key=psnr.__getitem__)
    path = folder / _name(case, setting)
    if not math.isfinite(psnr[row]) or (path.exists() and float(read_text(path)["psnr"]) <= psnr[row]):
        return
    text = {"prompt": samples[row].prompt, "seed": samples[row].seed, "psnr": psnr[row], "nfe": nfe[row]}
    both = torch.cat([_small(reference[row], reference[row]), _small(pictures[row], reference[row])], dim=-1)
    content = encode_png(to_pil(both[None])[0], {key: str(value) for key, value in text.items()})
    folder.mkdir(exist_ok=True)
    write_atomically(path, content)


def worst(folder: Path, case: Case, setting: Setting) -> Worst | None:
    """Reads the worst sample of a setting; None if none is kept."""
    from PIL import Image

    path = folder / _name(case, setting)
    if not path.exists():
        return None
    text = read_text(path)
    with Image.open(path) as image:
        sample = Sample(text.get("prompt", ""), int(text["seed"]))
        return Worst(sample, float(text["psnr"]), float(text["nfe"]), image.convert("RGB"))


def damaged_worst(folder: Path, case: Case, setting: Setting) -> str | None:
    """Says what is wrong with the kept worst picture of a setting, if anything is, and removes it then."""
    path = folder / _name(case, setting)
    try:
        if path.exists() or path.is_symlink():
            read_bytes(path)
            worst(folder, case, setting)
    except (ValueError, OSError, KeyError, SyntaxError, MemoryError) as error:
        path.unlink()
        return f"{path} is damaged ({str(error) or type(error).__name__})"
    return None


def _name(case: Case, setting: Setting) -> str:
    named = json.dumps([*astuple(case), setting.label])
    return f"{hashlib.sha256(named.encode()).hexdigest()[:24]}.png"


def _small(picture: Tensor, reference: Tensor) -> Tensor:
    """Returns (3, h, w) in [0, 1], scaled down to `SIDE`.

    A spectrogram is scaled to the range of the reference; time goes from left to right, low bands are at the bottom.
    """
    if picture.shape[0] == 1:
        low, high = reference.min(), reference.max()
        picture = ((picture - low) / (high - low)).clamp(0, 1).mT.flip(-2).expand(3, -1, -1)
    scale = SIDE / max(picture.shape[-2:])
    if scale >= 1:
        return picture
    size = [max(1, round(side * scale)) for side in picture.shape[-2:]]
    return interpolate(picture[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)
