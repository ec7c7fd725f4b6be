"""What Stable Diffusion 1.x, 2.x and XL share: CLIP text encoders, and a U-Net that attends to their states."""

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor, nn

from .base import Conditioning
from .clip_windows import encode_windows, read_tokens, room_of, warn_if_cut
from .prompt_encoder import Batch, ClipText
from .request import Request
from .text_encoding import Encoding, repeated, stacked
from .text_family import BLENDED, ENCODED, WINDOWS, Sides, TextFamily, given_prompts
from .text_options import CHUNKS
from .unet import LatentUNet


class ClipUNet(LatentUNet, TextFamily):
    """Base class of these families."""

    @property
    def clips(self) -> Mapping[str, ClipText]:
        """The text encoders by component name."""
        raise NotImplementedError

    def run(self, text: ClipText, prompts: Sequence[str] | Batch) -> tuple[Tensor, Tensor | None]:
        """The states (B, length, width) of a text encoder that the U-Net reads, and pooled ones if it reads them."""
        raise NotImplementedError

    @property
    def options(self) -> frozenset[str]:
        return ENCODED | WINDOWS | BLENDED

    @property
    def prompt_encoders(self) -> Mapping[str, ClipText]:
        return self.clips

    @property
    def adaptable(self) -> Mapping[str, nn.Module]:
        return {**super().adaptable, **{name: text.encoder for name, text in self.clips.items()}}

    @property
    def guidable(self) -> bool:
        return not self.distilled

    def beside_text(self, request: Request, like: Tensor, *, negative: bool) -> Conditioning:
        return self.embedded_guidance(request, like.device)

    def given(self, encoding: Encoding) -> Conditioning:
        return {**super().given(encoding), "context": repeated(encoding)}

    def windows(self, sides: Sides, request: Request) -> list[int]:
        """Number of windows of each sample: of its longest prompt, or of the encoded one that it has already.

        Raises:
            ValueError: If an encoded prompt is not a whole number of windows.
        """
        given = given_prompts(request)
        if given is not None:
            return [self._windows_of(length) for length in given.all_lengths]
        if request.long_prompts != CHUNKS:
            return super().windows(sides, request)
        counts = []
        for text in self.clips.values():
            for side in sides.values():
                tokens = read_tokens(text, [prompt or "" for prompt in side], weighted=request.prompt_weights)
                counts.append([found.windows(room_of(text)) for found in tokens])
        return [max(own) for own in zip(*counts, strict=True)]

    def _windows_of(self, length: int) -> int:
        window = next(iter(self.clips.values())).length
        if length % window:
            raise ValueError(
                f"prompt_embeds= have {length} tokens, not a multiple of the {window} of the text encoder, so that no "
                "other prompt can be encoded to as many: give negative_embeds= too"
            )
        return length // window

    def read(self, text: ClipText, texts: Sequence[tuple[str, int]], request: Request) -> Encoding:
        """Encode texts, with their numbers of windows, by one of the text encoders."""
        prompts, counts = [prompt for prompt, _ in texts], [count for _, count in texts]
        if max(counts) == 1 and request.long_prompts != CHUNKS and not request.prompt_weights:
            return Encoding(*self.run(text, prompts))
        tokens = read_tokens(text, prompts, weighted=request.prompt_weights)
        warn_if_cut(text, prompts, tokens, counts)
        rows, pooled = encode_windows(text, tokens, counts, partial(self.run, text))
        return stacked(rows, pooled)
