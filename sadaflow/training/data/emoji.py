"""Renders captioned colour emoji from the font Noto Color Emoji (SIL OFL 1.1); captions are their Unicode names."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .captions import EVERYDAY, RENAMED

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")  # Debian package fonts-noto-color-emoji
STRIKE = 109  # the only bitmap size in the font
GLYPH = 136  # width in pixels of its bitmaps, which are 128 high

EVERYDAY_WEIGHT = 8.0

_SKIPPED = re.compile(
    r"TAG |CANCEL TAG|REGIONAL|MODIFIER|EMOJI COMPONENT|SQUARED|CIRCLED|COMBINING|DIGIT|JOINER|SPACE$|IDEOGRAPH"
    r"|CLOCK FACE|NUMBER SIGN|ASTERISK|WITH MIDDLE FINGER|PART ALTERNATION"
)
_SHADES = re.compile(r"\b(black|white|heavy) (?!flag|heart|cat)")
_DIRECTED = re.compile(
    r"left|right|north|south|east|west|point|arrow|hand|sign|symbol|mark|button|letter|text|clock|label|abc"
)


@dataclass(frozen=True)
class Emoji:
    """A picture with its captions.

    Attributes:
        character: The character.
        captions: Captions; the first is the Unicode name.
        weight: Sampling weight in training.
    """

    character: str
    captions: tuple[str, ...]
    weight: float

    @property
    def mirrors(self) -> bool:
        """Whether the captions fit the mirror image too: they name neither a direction nor writing."""
        return not _DIRECTED.search(" ".join(self.captions))


def caption_of(name: str, codepoint: int) -> str:
    """Convert a Unicode character name to a caption.

    The names of old symbols (below U+3000) call filled shapes black and outlined shapes white, whatever the colour of
    the emoji; these words are removed.
    """
    text = name.lower()
    if codepoint < 0x3000:
        text = _SHADES.sub("", text)
    return re.sub(r" (sign|symbol)$", "", text)


def load_emoji(font: Path = FONT) -> list[Emoji]:
    """All named single code points of a font, without letters, digits, tags and clock faces."""
    return list(_named(font))


def _named(font: Path) -> Iterator[Emoji]:
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

    for codepoint in sorted(TTFont(require_font(font), lazy=True).getBestCmap()):
        name = unicodedata.name(chr(codepoint), "")
        if codepoint < 0x200 or not name or _SKIPPED.search(name):
            continue
        caption = RENAMED.get(name.lower(), caption_of(name, codepoint))
        synonyms = EVERYDAY.get(caption)
        yield Emoji(
            chr(codepoint),
            (caption, *(synonyms or ())),
            1.0 if synonyms is None else EVERYDAY_WEIGHT,
        )


def require_font(font: Path) -> Path:
    """Return `font`; raises FileNotFoundError if it is not installed."""
    if not font.is_file():
        raise FileNotFoundError(f"{font} not found; install the Debian package fonts-noto-color-emoji")
    return font


def draw(character: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """Draw a glyph as a square RGBA picture of side `GLYPH`, centred by its bounding box."""
    canvas = Image.new("RGBA", (2 * GLYPH, 2 * GLYPH))
    ImageDraw.Draw(canvas).text((GLYPH // 2, GLYPH // 2), character, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f"the font has no picture for U+{ord(character):04X}; remove it from the data")
    centre = ((box[0] + box[2]) // 2, (box[1] + box[3]) // 2)
    left, top = centre[0] - GLYPH // 2, centre[1] - GLYPH // 2
    return canvas.crop((left, top, left + GLYPH, top + GLYPH))


def place(
    glyph: Image.Image, size: int, scale: float = 0.92, shift: tuple[float, float] = (0.0, 0.0), mirror: bool = False
) -> Image.Image:
    """Place a glyph on a white square.

    Args:
        glyph: Square picture of the glyph.
        size: Side of the result in pixels.
        scale: Side of the glyph as a fraction of `size`.
        shift: Displacement from the centre, right and down, as fractions of `size`.
        mirror: Whether the glyph is mirrored.
    """
    side = max(1, round(size * scale))
    small = glyph.resize((side, side), Image.Resampling.LANCZOS)
    if mirror:
        small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture = Image.new("RGBA", (size, size), "white")
    corner = tuple(round((size - side) / 2 + part * size) for part in shift)
    picture.alpha_composite(small, (max(0, corner[0]), max(0, corner[1])))
    return picture.convert("RGB")


def to_tensor(pictures: list[Image.Image]) -> Tensor:
    """Convert RGB pictures to bytes (N, 3, H, W)."""
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2).contiguous()


def render(emoji: list[Emoji], size: int, variants: int, seed: int, font: Path = FONT) -> Tensor:
    """Render emoji in several variants.

    Args:
        emoji: The emoji.
        size: Side of the pictures in pixels.
        variants: Number of variants; all but the first vary in position and scale, and are mirrored if captions allow.
        seed: Seed of the variation.
        font: The font.

    Returns:
        Pictures (N, variants, 3, size, size) in bytes.
    """
    face = ImageFont.truetype(str(require_font(font)), STRIKE)
    random = np.random.default_rng(seed)
    rows = []
    for item in emoji:
        glyph = draw(item.character, face)
        row = [place(glyph, size)]
        for _ in range(variants - 1):
            scale, shift = random.uniform(0.84, 0.98), random.uniform(-0.04, 0.04, 2)
            row.append(place(glyph, size, scale, (shift[0], shift[1]), item.mirrors and random.random() < 0.25))
        rows.append(to_tensor(row))
    return torch.stack(rows)

