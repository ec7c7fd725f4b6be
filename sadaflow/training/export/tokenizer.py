"""Trains a CLIP tokenizer with a small byte-pair vocabulary, and writes it in the Hub's layout."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...loading.hub.write import write_json
from ..data.captions import MAX_LENGTH

START, END = "<|startoftext|>", "<|endoftext|>"


def train_tokenizer(texts: Iterable[str], vocabulary: int, folder: Path) -> Any:
    """Learns merges from texts and writes the tokenizer.

    The order of the vocabulary is CLIP's: bytes, bytes that end a word, merges, start and end. The order of merges of
    equal frequency is not defined, so a text model works only with the files that it was trained with.

    Args:
        texts: The captions.
        vocabulary: Number of entries.
        folder: Folder for the files.

    Returns:
        The tokenizer as a transformers CLIPTokenizer.
    """
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import BPE
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
    from tokenizers.trainers import BpeTrainer
    from transformers import CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = Lowercase()
    words = Split(Regex(r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = Sequence([words, ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = json.loads(tokenizer.to_str())["model"]["merges"]
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in learned]
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    tokens += [token for merge in merges if (token := merge.replace(" ", "")) not in tokens]
    table = {token: index for index, token in enumerate([*tokens, START, END])}

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(table, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    write_json(folder / "special_tokens_map.json", special)
    settings = {"add_prefix_space": False, "do_lower_case": True, "model_max_length": MAX_LENGTH}
    write_json(folder / "tokenizer_config.json", {**special, **settings, "tokenizer_class": "CLIPTokenizer"})
    CLIPTokenizer.from_pretrained(folder).backend_tokenizer.save(str(folder / "tokenizer.json"))
    return load_tokenizer(folder)


def load_tokenizer(folder: Path) -> Any:
    """Loads a transformers CLIPTokenizer from `folder`."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)
