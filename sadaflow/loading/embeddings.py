"""Reads textual inversions (Gal et al. 2022, arXiv 2208.01618): vectors of a new token, from safetensors files."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .copied_weights import copied
from .safetensors_file import Stored, read_headers, read_tensors

BUNDLE = "bundle_emb."
"""Start of the keys of textual inversions in an adapter file: bundle_emb.NAME.KEY."""

ANY = "any"
_KEYS = {
    "emb_params": ANY,
    "clip_l": "clip_l",
    "clip_g": "clip_g",
    "text_encoders_0": "clip_l",
    "text_encoders_1": "clip_g",
    "t5": "t5",
    "t5xxl": "t5",
    "*": ANY,
}
_STRING_TO_PARAM = re.compile(r"string_to_param(?:\..+)?")
_LONGEST = 200


@dataclass(frozen=True, eq=False)
class Embedding:
    """A textual inversion, as `Pipeline.load_embedding` returns it.

    Attributes:
        token: The word that stands for it in prompts.
        vectors: Vectors (n, width) by the encoder that they are for: clip_l, clip_g, t5, or "any" if none is named.
        source: Its file, for errors.
    """

    token: str
    vectors: Mapping[str, Tensor]
    source: str


def read_embedding(path: Path, token: str | None = None) -> Embedding:
    """Read a textual inversion.

    The forms are those of Diffusers ({token: vectors}), kohya (emb_params), A1111 (string_to_param, emb_params) and of
    SDXL and Flux.1 (clip_l, clip_g, t5).

    Args:
        path: The file.
        token: The word that shall stand for it; None for that of a file of Diffusers, or else the file's name.

    Raises:
        ValueError: If the file holds something else, or numbers that are not finite; or if the token is not a word.
    """
    stored = list(read_headers([path]))
    kinds = {one: _kind(one.name) for one in stored}
    if len(stored) == 1 and kinds[stored[0]] is None:
        kinds[stored[0]] = ANY
        token = stored[0].name if token is None else token
    strange = [one.name for one, kind in kinds.items() if kind is None]
    if strange or not stored:
        examples = f" ({', '.join(repr(name[:80]) for name in strange[:3])})" if strange else ""
        raise ValueError(
            f"{path}: {len(strange)} of {len(stored)} keys are not those of a textual inversion{examples}; known are "
            "one key that is the token, emb_params, string_to_param, clip_l, clip_g and t5"
        )
    return Embedding(_word(path.stem if token is None else token, path), _vectors(path, kinds), str(path))


def bundled(path: Path, stored: Sequence[Stored]) -> tuple[Embedding, ...]:
    """The textual inversions in an adapter file.

    Args:
        path: The file.
        stored: Its tensors whose keys begin with `BUNDLE`.

    Raises:
        ValueError: See `read_embedding`.
    """
    groups: dict[str, dict[Stored, str | None]] = {}
    for one in stored:
        match = re.fullmatch(r"(.+?)\.(string_to_param(?:\..+)?|[^.]+)", one.name.removeprefix(BUNDLE))
        if match is None or (kind := _kind(match[2])) is None:
            raise ValueError(
                f"{path}: {one.name!r} is not a textual inversion of a known form; known are string_to_param, "
                "emb_params, clip_l, clip_g and t5"
            )
        groups.setdefault(match[1], {})[one] = kind
    return tuple(Embedding(_word(name, path), _vectors(path, group), str(path)) for name, group in groups.items())


def _kind(key: str) -> str | None:
    """The encoder that a key is for; None if it is not known."""
    return ANY if _STRING_TO_PARAM.fullmatch(key) else _KEYS.get(key)


def _vectors(path: Path, kinds: Mapping[Stored, str | None]) -> dict[str, Tensor]:
    vectors: dict[str, Tensor] = {}
    for stored, tensor in read_tensors(sorted(kinds, key=lambda stored: stored.index)):
        kind = kinds[stored]
        assert kind is not None
        if kind in vectors:
            raise ValueError(f"{path}: {stored.name!r} is a second tensor for the same text encoder")
        if not stored.is_float or not 1 <= tensor.dim() <= 2 or 0 in tensor.shape:
            raise ValueError(
                f"{path}: {stored.name!r} holds {stored.format} of shape {stored.shape}; a textual inversion has float "
                "vectors (n, width)"
            )
        vectors[kind] = copied(stored, tensor, torch.float32, torch.device("cpu")).reshape(-1, tensor.shape[-1])
    return vectors


def _word(token: str, path: Path) -> str:
    if not token or len(token) > _LONGEST or re.search(r"\s", token):
        raise ValueError(f"{path}: {token[:80]!r} is not a word; give token=, without spaces")
    return token
