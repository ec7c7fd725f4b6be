"""Writes a T5 tokenizer whose unigram vocabulary is the words of the captions, in the Hub's files."""

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..loops.flow import T5_LENGTH

_LETTER = -20.0  # log-probability of a piece of one character, below that of any word


def write_t5_tokenizer(texts: Iterable[str], vocabulary: int, folder: Path) -> Any:
    """Write a tokenizer of the most frequent words, and of single characters for all other words.

    Args:
        texts: Texts whose words are counted.
        vocabulary: Largest number of tokens.
        folder: Folder to write to.

    Returns:
        The `transformers` T5TokenizerFast.
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
    """Load the `transformers` T5TokenizerFast in `folder`."""
    from transformers import T5TokenizerFast

    return T5TokenizerFast.from_pretrained(folder)
