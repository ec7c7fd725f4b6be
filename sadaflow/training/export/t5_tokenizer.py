"""Writes a T5 tokenizer whose unigram vocabulary is the words of the captions, in the Hub's layout."""

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..loops.flow import T5_LENGTH

_LETTER = -20.0  # log-probability of a single character: below that of every word, above that of an unknown piece


def write_t5_tokenizer(texts: Iterable[str], vocabulary: int, folder: Path) -> Any:
    """Writes a tokenizer of the most frequent words, with single characters for all others.

    Args:
        texts: The captions.
        vocabulary: Number of entries.
        folder: Folder for the files.

    Returns:
        The tokenizer as a transformers T5TokenizerFast.
    """
    from transformers import T5TokenizerFast

    counts = Counter(word for text in texts for word in text.split())
    letters = [chr(code) for code in range(33, 127)]
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    kept = ranked[: vocabulary - len(letters) - 4]
    total = math.log(counts.total())
    words = [("\u2581" + word, math.log(counts[word]) - total) for word in kept]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces = [*special, ("\u2581", _LETTER), *words, *((letter, _LETTER) for letter in letters)]
    T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=T5_LENGTH).save_pretrained(folder)
    return load_t5_tokenizer(folder)


def load_t5_tokenizer(folder: Path) -> Any:
    """Loads a transformers T5TokenizerFast from `folder`."""
    from transformers import T5TokenizerFast

    return T5TokenizerFast.from_pretrained(folder)
