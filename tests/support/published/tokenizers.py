"""Vocabulary files of small tokenizers: one token per character."""

import json
from pathlib import Path

from transformers import T5TokenizerFast

_LETTERS = [chr(code) for code in range(33, 127)]
_WORDS = [*_LETTERS, *(letter + "</w>" for letter in _LETTERS), "<|startoftext|>", "<|endoftext|>"]
_PIECES = [
    ("<pad>", 0.0),
    ("</s>", 0.0),
    ("<unk>", 0.0),
    ("\u2581", -2.0),
    *((letter, -3.0) for letter in _LETTERS),
]

VOCABULARY = len(_WORDS)
PIECES = len(_PIECES)


def write_clip(folder: Path) -> None:
    """Write vocab.json and merges.txt, the files that CLIP checkpoints of the Hub have."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(_WORDS)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def write_t5(folder: Path) -> None:
    """Write tokenizer.json with 100 extra tokens at the end, and leave the settings that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = T5TokenizerFast(vocab=_PIECES, extra_ids=100)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
