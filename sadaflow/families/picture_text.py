"""Encodes prompts with pictures by Qwen2.5-VL, whose hidden states condition the backbone."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..loading.text_encoder import PreparedEncoder
from .chat_text import ChatText
from .picture_patches import PatchSettings
from .prompt_encoder import input_device, tokenize

PICTURE_TOKEN = "<|image_pad|>"
"""Stands for a picture in a text."""


class PictureText(ChatText):
    """A language model that reads pictures, with its tokenizer.

    Attributes:
        tokenizer: The `transformers` tokenizer.
        encoder: The `transformers` model, without output embeddings.
        settings: How pictures are cut into patches.
    """

    def __init__(self, tokenizer: Any, encoder: Any, settings: PatchSettings) -> None:
        super().__init__(tokenizer, encoder)
        self.settings = settings

    @classmethod
    def built(cls, encoder: PreparedEncoder, settings: PatchSettings) -> "PictureText":
        """Build a prepared encoder; raises ValueError if the stored tensors do not fit the config."""
        return cls(encoder.tokenizer, encoder.build(), settings)

    @torch.no_grad()
    def encode_pictures(self, texts: Sequence[str], pictures: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Tensor]:
        """Encode texts that contain pictures, padded to the longest.

        Args:
            texts: The texts, with their template and a `PICTURE_TOKEN` for each picture.
            pictures: The pictures of each text, RGB (3, H, W) in [0, 1].

        Returns:
            The output of the last layer after the final norm (B, L, width), and which tokens are not padding (B, L),
            bool on the CPU. A picture has a token for each `merge_size`^2 patches.

        Raises:
            ValueError: If a text has another number of `PICTURE_TOKEN` than of pictures.
        """
        cut = [[self.settings.patches(picture) for picture in row] for row in pictures]
        merge = self.settings.merge_size
        grids = [[(rows // merge, columns // merge) for _, (rows, columns) in row] for row in cut]
        spelled = [_spelled(text, sizes) for text, sizes in zip(texts, grids, strict=True)]
        batch = tokenize(self.tokenizer, spelled, self.tokenizer.model_max_length, special=False, fill=False)
        ids, mask, device = batch["input_ids"], batch["attention_mask"], input_device(self.encoder)
        token = self.tokenizer.convert_tokens_to_ids(PICTURE_TOKEN)
        known = [row[own.bool()] == token for row, own in zip(ids, mask, strict=True)]
        positions = [picture_positions(row, sizes) for row, sizes in zip(known, grids, strict=True)]
        shapes = [(1, *grid) for row in cut for _, grid in row]
        output = self.encoder(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            position_ids=pad_sequence(positions, batch_first=True).permute(2, 0, 1).to(device),
            pixel_values=torch.cat([patches for row in cut for patches, _ in row]).to(device, self.encoder.dtype),
            image_grid_thw=torch.tensor(shapes, device=device),
            output_hidden_states=True,
            use_cache=False,
        )
        return output.hidden_states[-1], mask.bool()


def picture_positions(pictured: Tensor, grids: Sequence[tuple[int, int]]) -> Tensor:
    """Positions (time, row, column) of the tokens of a text with pictures.

    Tokens of the text have the same position on all three axes. Those of a picture lie on its grid; what follows begins
    after the longer side of it.

    Args:
        pictured: Which tokens are a picture's, bool (L,).
        grids: Height and width in tokens of each picture, in order.

    Returns:
        (L, 3).
    """
    return torch.cat(list(_runs(pictured.tolist(), iter(grids))))


def _runs(pictured: Sequence[bool], grids: Iterator[tuple[int, int]]) -> Iterator[Tensor]:
    """Positions (n, 3) of each run of tokens of the text, and of each picture."""
    token, start = 0, 0
    while token < len(pictured):
        if pictured[token]:
            rows, columns = next(grids)
            run = torch.cartesian_prod(torch.zeros(1, dtype=torch.long), torch.arange(rows), torch.arange(columns))
            after = max(rows, columns)
        else:
            after = next((n for n, own in enumerate(pictured[token:]) if own), len(pictured) - token)
            run = torch.arange(after)[:, None].expand(-1, 3)
        yield run + start
        token, start = token + len(run), start + after


def _spelled(text: str, grids: Sequence[tuple[int, int]]) -> str:
    """A text whose picture tokens are repeated, one for each token of its pictures."""
    first, *rest = text.split(PICTURE_TOKEN)
    if len(rest) != len(grids):
        raise ValueError(f"a prompt must not contain {PICTURE_TOKEN}, which stands for a picture")
    pairs = zip(grids, rest, strict=True)
    return first + "".join(rows * columns * PICTURE_TOKEN + part for (rows, columns), part in pairs)
