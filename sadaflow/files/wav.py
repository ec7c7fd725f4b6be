"""Reads and writes WAV files of 16-bit PCM with a comment."""

import io
import struct
from pathlib import Path

import torch
from torch import Tensor

from .atomic import check_target, write_whole

_LOUDEST = 2**15 - 1


def write_wav(path: str | Path, audio: Tensor, rate: int, comment: str = "", overwrite: bool = False) -> None:
    """Write a WAV file, which appears under its name when it is complete; missing parent folders are created.

    Args:
        path: The file.
        audio: Waveform (samples,), clipped to [-1, 1].
        rate: Sampling rate in Hz.
        comment: Text of the entry ICMT in the file's INFO list, which players show.
        overwrite: Whether an existing file is replaced.

    Raises:
        FloatingPointError: If the waveform holds NaN or infinity.
        ValueError, FileExistsError, NotADirectoryError: See `check_target`.
    """
    path = Path(path)
    check_target(path, overwrite, ".wav")
    content = encode_wav(audio, rate, comment)
    write_whole(path, lambda file: file.write(content), overwrite)


def encode_wav(audio: Tensor, rate: int, comment: str = "") -> bytes:
    """The content of the WAV file that `write_wav` writes for these arguments; raises FloatingPointError as it does."""
    if not bool(torch.isfinite(audio).all()):
        raise FloatingPointError("the sound is not finite: float16 overflows where bfloat16 and float32 do not")
    plain = io.BytesIO()
    from scipy.io import wavfile  # slow to import

    wavfile.write(plain, rate, (audio.cpu().clamp(-1, 1) * _LOUDEST).round().to(torch.int16).numpy())
    entry = _chunk(b"ICMT", comment.encode() + b"\0")
    chunks = plain.getvalue()[12:] + _chunk(b"LIST", b"INFO" + entry)
    return _chunk(b"RIFF", b"WAVE" + chunks)


def read_comment(path: str | Path) -> str:
    """Read the entry ICMT of a WAV file; "" if there is none."""
    content, offset = Path(path).read_bytes(), 12
    while offset + 8 <= len(content):
        name, size = content[offset : offset + 4], int.from_bytes(content[offset + 4 : offset + 8], "little")
        if name == b"ICMT":
            return content[offset + 8 : offset + 8 + size].rstrip(b"\0").decode()
        inside = name == b"LIST" and content[offset + 8 : offset + 12] == b"INFO"
        offset += 12 if inside else 8 + size + size % 2
    return ""


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
