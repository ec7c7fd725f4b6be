"""Reads a tokenizer from the files of its own folder, and checks its ids against the encoder that embeds them.

`tokenizer_config.json` and `special_tokens_map.json` as published name files of the machine that wrote them
(`special_tokens_map_file`, `tokenizer_file`, `name_or_path`), and `transformers` would open some of those. What is read
here is a copy of the folder with the files under their fixed names, and with the settings that matter.
"""

import json
import reprlib
import shutil
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .checkpoint import Checkpoint
from .json_file import LONGEST, read_object
from .transformers_package import reading

_VOCABULARIES = ("tokenizer.json", "vocab.json", "merges.txt", "spiece.model", "added_tokens.json")
_TOKENS = (
    *("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"),
    *("additional_special_tokens", "extra_special_tokens"),
)
_SETTINGS = (
    *_TOKENS,
    *("added_tokens_decoder", "model_max_length", "extra_ids", "padding_side", "truncation_side"),
    *("add_prefix_space", "trim_offsets", "do_lower_case", "errors", "split_special_tokens", "legacy"),
)
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("add_prefix_space", "trim_offsets", "split_special_tokens"), bool),
    "added_tokens_decoder": dict,
    "extra_ids": int,
    "padding_side": str,
    "truncation_side": str,
}
_CLASSES = {
    "CLIPTokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "T5TokenizerFast": ("T5Tokenizer", "T5TokenizerFast"),
    "PreTrainedTokenizerFast": ("LlamaTokenizer", "LlamaTokenizerFast"),
    "Qwen2TokenizerFast": ("Qwen2Tokenizer", "Qwen2TokenizerFast"),
    "RobertaTokenizerFast": ("RobertaTokenizer", "RobertaTokenizerFast"),
}
_GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")
_UNLIMITED = 10**9  # transformers writes 1e30 where nothing limits a prompt


def load_tokenizer(checkpoint: Checkpoint, component: str, class_name: str, **settings: Any) -> Any:
    """Load the tokenizer in a folder of a checkpoint.

    Only files of that folder with the usual names are read; fields that name files are ignored.

    Args:
        checkpoint: The checkpoint.
        component: The folder in it ("tokenizer").
        class_name: Class of the tokenizer in `transformers`.
        settings: Settings that replace those of the folder (`pad_token`).

    Returns:
        A `transformers` tokenizer whose `model_max_length` is an int.

    Raises:
        FileNotFoundError: If the folder or its vocabulary is missing.
        ValueError: If a setting has a wrong value, or if the files cannot be read.
    """
    folder = checkpoint.path(component)
    if not folder.is_dir():
        raise FileNotFoundError(f"the checkpoint has no folder {folder}")
    source = folder / "tokenizer_config.json"
    found = read_object(source) if source.is_file() else {}
    _check_class(source, found.get("tokenizer_class"), class_name)
    longest = _longest(source, found.get("model_max_length"))
    with tempfile.TemporaryDirectory(prefix="sadaflow-tokenizer-") as name:
        copy = Path(name)
        _copy_vocabulary(folder, copy)
        for file, kept in (("tokenizer_config.json", _SETTINGS), ("special_tokens_map.json", _TOKENS)):
            if (folder / file).is_file():
                (copy / file).write_text(json.dumps(_kept(folder / file, kept)), "utf-8")
        with reading(folder) as transformers:
            tokenizer = getattr(transformers, class_name).from_pretrained(copy, local_files_only=True, **settings)
    tokenizer.name_or_path = tokenizer.init_kwargs["name_or_path"] = str(folder)
    tokenizer.model_max_length = longest
    _check_tokens(folder, tokenizer)
    return tokenizer


def check_ids(tokenizer: Any, vocabulary: int, encoder: str) -> None:
    """Check that the encoder can embed every token of the tokenizer.

    The encoder's vocabulary may be larger than the tokenizer's; it is often rounded up.

    Args:
        tokenizer: The tokenizer.
        vocabulary: Number of ids that the encoder embeds.
        encoder: The encoder's file or folder, for errors.

    Raises:
        ValueError: If a token has an id of `vocabulary` or more.
    """
    beyond = {index: token for token, index in tokenizer.get_vocab().items() if index >= vocabulary}
    with reading(tokenizer.name_or_path):
        probe = tokenizer.backend_tokenizer.encode("a")
    beyond |= {index: token for index, token in zip(probe.ids, probe.tokens, strict=True) if index >= vocabulary}
    if beyond:
        index = min(beyond)
        more = f" (and {len(beyond) - 1} more)" if len(beyond) > 1 else ""
        raise ValueError(
            f"{tokenizer.name_or_path}: token {beyond[index][:80]!r} has id {index}{more}, but {encoder} embeds ids 0 "
            f"to {vocabulary - 1} (vocab_size={vocabulary}): the tokenizer is of another checkpoint, or tokens were "
            "added to it alone"
        )


def _check_class(source: Path, found: Any, class_name: str) -> None:
    known = _CLASSES[class_name]
    if found is not None and found not in (*known, *_GENERIC):
        raise ValueError(f"{source}: tokenizer_class={str(found)[:80]!r}; supported here: {', '.join(known)}")


def _longest(source: Path, value: Any) -> int:
    """The setting `model_max_length` as an integer; if it is absent, prompts are not limited."""
    if value is None:
        return _UNLIMITED
    if type(value) not in (int, float) or not value >= 1 or (value < _UNLIMITED and value != int(value)):
        raise ValueError(f"{source}: model_max_length={str(value)[:80]} is not a number of tokens")
    return int(min(value, _UNLIMITED))


def _copy_vocabulary(folder: Path, copy: Path) -> None:
    present = [name for name in _VOCABULARIES if (folder / name).is_file()]
    vocabularies = {"tokenizer.json", "vocab.json", "spiece.model"} & set(present)
    if not vocabularies:
        files = "tokenizer.json, or vocab.json and merges.txt, or spiece.model"
        raise FileNotFoundError(f"{folder} holds no vocabulary: {files} is needed")
    if "vocab.json" in present and not {"tokenizer.json", "merges.txt"} & set(present):
        raise FileNotFoundError(f"{folder} holds vocab.json without merges.txt")
    if vocabularies == {"spiece.model"} and find_spec("sentencepiece") is None:
        raise ValueError(
            f"{folder / 'spiece.model'}: reading it needs the package sentencepiece (pip install sentencepiece); a "
            "tokenizer.json in its place needs nothing more"
        )
    for name in present:
        if (size := (folder / name).stat().st_size) > LONGEST:
            raise ValueError(f"{folder / name} has {size} bytes; a vocabulary has at most {LONGEST}")
        shutil.copyfile(folder / name, copy / name)


def _kept(file: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """The settings in `file` that matter: `names`, and further tokens that are spelled out ("image_token": "<x>")."""
    kept = {}
    for name, value in read_object(file).items():
        if name.endswith("_token") and (name in names or isinstance(value, (str, dict))):
            if value is not None and not _is_token(value):
                raise ValueError(f"{file}: {name}={reprlib.repr(value)} is not a token")
        elif name not in names or (value is None and name in _TYPES):
            continue
        elif name.endswith("_tokens") and name not in _TYPES:
            values = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else [value]
            if value is not None and not all(map(_is_token, values)):
                raise ValueError(f"{file}: {name}={reprlib.repr(value)} is not a list of tokens")
        elif name in _TYPES and not isinstance(value, _TYPES[name]):
            raise ValueError(f"{file}: {name}={reprlib.repr(value)} has a wrong type")
        kept[name] = value
    return kept


def _is_token(value: Any) -> bool:
    """Whether `value` is a token: its text, or an object with it and how it is matched."""
    text = value["content"] if isinstance(value, dict) and "content" in value else value
    return isinstance(text, str) and text != ""


def _check_tokens(folder: Path, tokenizer: Any) -> None:
    """Raise ValueError if the tokenizer lacks a token that padded batches of prompts need."""
    for name in ("pad_token", "eos_token"):
        if getattr(tokenizer, f"{name}_id") is None:
            raise ValueError(f"{folder}: {name} is missing from the tokenizer's settings, or from its vocabulary")
    if tokenizer.model_max_length <= (special := tokenizer.num_special_tokens_to_add()):
        raise ValueError(
            f"{folder / 'tokenizer_config.json'}: model_max_length={tokenizer.model_max_length} leaves no token for "
            f"the prompt beside {special} special ones"
        )
