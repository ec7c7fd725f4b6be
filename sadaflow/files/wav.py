"""WAV files: 16-bit PCM, with a comment."""

import io
import struct
from pathlib import Path

import torch
from scipy.io import wavfile
from torch import Tensor

from .atomic import check_target, write_whole

_LOUDEST = 2**15 - 1


def write_wav(path: str | Path, audio: Tensor, rate: int, comment: str = "", overwrite: bool = False) -> None:
    """Write `audio` (samples,) in [-1, 1], clipped to it, at `rate` samples per second; missing folders are made.

    `comment` becomes the ICMT entry of the file's INFO list, which players show. The file appears under its name only
    when complete. Raises as `check_target`, and FloatingPointError for samples that are no numbers.
    """
    path = Path(path)
    check_target(path, overwrite, ".wav")
    content = encode_wav(audio, rate, comment)
    write_whole(path, lambda file: file.write(content), overwrite)


def encode_wav(audio: Tensor, rate: int, comment: str = "") -> bytes:
    """The bytes of a WAV file, as `write_wav` writes it; FloatingPointError likewise."""
    if not bool(torch.isfinite(audio).all()):
        raise FloatingPointError("the sound is not finite: float16 overflows where bfloat16 and float32 do not")
    plain = io.BytesIO()
    wavfile.write(plain, rate, (audio.cpu().clamp(-1, 1) * _LOUDEST).round().to(torch.int16).numpy())
    entry = _chunk(b"ICMT", comment.encode() + b"\0")
    chunks = plain.getvalue()[12:] + _chunk(b"LIST", b"INFO" + entry)
    return _chunk(b"RIFF", b"WAVE" + chunks)


def read_comment(path: str | Path) -> str:
    """The ICMT entry of a WAV file; "" where it has none."""
    content, at = Path(path).read_bytes(), 12
    while at + 8 <= len(content):
        name, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        if name == b"ICMT":
            return content[at + 8 : at + 8 + size].rstrip(b"\0").decode()
        inside = name == b"LIST" and content[at + 8 : at + 12] == b"INFO"
        at += 12 if inside else 8 + size + size % 2
    return ""


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
