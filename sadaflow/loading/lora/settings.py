"""Settings beside the tensors of an adapter: PEFT's adapter_config.json, or the metadata of Diffusers' files."""

import json
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..hub.locate import ADAPTER_CONFIG, ADAPTER_FILE
from ..json_file import read_object
from ..safetensors_file import open_safetensors

METADATA = "lora_adapter_metadata"
PEFT_PREFIX = "base_model.model."
_TYPES = {"LORA": "lora_alpha", "LOHA": "alpha", "LOKR": "alpha", "OFT": None, "BOFT": None, "IA3": None}
_STARTS = {"pissa": "pissa", "olora": "olora"}
_HARMLESS = ("gaussian", "eva", "orthogonal", "mica")
# Fields that change the result and have no counterpart here, with the values that leave it as it is.
_REFUSED: Mapping[str, tuple[Any, ...]] = {
    "fan_in_fan_out": (None, False),
    "layer_replication": (None,),
    "alora_invocation_tokens": (None, []),
    "use_qalora": (None, False),
    "target_parameters": (None, []),
    "trainable_token_indices": (None, [], {}),
}
_PATTERN_PARTS = re.compile(r"[\w.\-^$|()\\*+?\[\]]{1,200}")


@dataclass(frozen=True)
class Settings:
    """Settings of one network's adapter.

    Attributes:
        source: Where they are written, for errors.
        fields: The fields as read; empty if there are none.
        known: Whether any were read.
    """

    source: str
    fields: Mapping[str, Any]
    known: bool

    @property
    def type(self) -> str:
        """PEFT's type of the adapter, "LORA" if none is named."""
        return str(self.fields.get("peft_type") or "LORA").rpartition(".")[2]

    @property
    def root(self) -> bool:
        """Whether alpha is divided by the root of the rank (rsLoRA)."""
        return self.fields.get("use_rslora") is True

    @property
    def start(self) -> str | None:
        """How training began, if a part of the weight was taken out for it: "pissa", "olora"."""
        start = self.fields.get("init_lora_weights")
        return _STARTS.get(start.lower()) if isinstance(start, str) else None

    def alpha(self, layer: str) -> float | None:
        """The alpha of a layer; None if it is not set."""
        field = _TYPES.get(self.type) or "lora_alpha"
        return self._number("alpha_pattern", field, layer)

    def rank(self, layer: str) -> int | None:
        """The rank of a layer; None if it is not set."""
        rank = self._number("rank_pattern", "r", layer)
        if rank is not None and (rank != int(rank) or rank < 1):
            raise ValueError(f"{self.source}: r={rank!r} is not a rank")
        return None if rank is None else int(rank)

    def whole(self, field: str, default: int) -> int:
        """A field that is a whole number."""
        value = self.fields.get(field, default)
        if type(value) is not int or value < 0:
            raise ValueError(f"{self.source}: {field}={value!r} is not a whole number")
        return value

    def _number(self, patterns: str, field: str, layer: str) -> float | None:
        value = self.fields.get(field)
        for pattern, own in self._patterns(patterns).items():
            if _matches(pattern, layer):
                value, field = own, f"{patterns}[{pattern!r}]"
                break
        if value is not None and not (type(value) in (int, float) and math.isfinite(value)):
            raise ValueError(f"{self.source}: {field}={value!r} in its settings is not a finite number")
        return value

    def _patterns(self, field: str) -> Mapping[str, Any]:
        patterns = self.fields.get(field) or {}
        if not isinstance(patterns, dict):
            raise ValueError(f"{self.source}: {field} holds a {type(patterns).__name__}, expected a JSON object")
        for pattern in patterns:
            if not _PATTERN_PARTS.fullmatch(pattern) or re.search(r"\)[*+]|[*+?]{2}|(?:[*+].*){4}", pattern):
                raise ValueError(f"{self.source}: {field} has {pattern[:80]!r}, which is not the name of a layer")
        return patterns

    def check(self) -> None:
        """Raise ValueError if a field asks for something that is not supported, or has a wrong type."""
        if self.type not in _TYPES:
            supported = ", ".join(_TYPES)
            raise ValueError(
                f"{self.source}: peft_type={self.type!r} is not supported; supported: {supported}. Merge it with PEFT "
                "(merge_and_unload) and load the merged checkpoint"
            )
        for field, plain in _REFUSED.items():
            if self.fields.get(field) not in plain:
                raise ValueError(f"{self.source}: {field}={self.fields[field]!r} in its settings is not supported")
        for field in ("use_rslora", "use_dora"):
            if self.fields.get(field) not in (None, True, False):
                raise ValueError(f"{self.source}: {field}={self.fields[field]!r} in its settings is not true or false")
        self._check_start()

    def _check_start(self) -> None:
        start = self.fields.get("init_lora_weights")
        if not isinstance(start, str) or start.lower() in (*_STARTS, *_HARMLESS):
            return
        raise ValueError(
            f"{self.source}: init_lora_weights={start!r} means that the factors belong to a base model from which a "
            "part was taken out, and that part cannot be computed again from the base alone; save the adapter with "
            "PEFT's save_pretrained(..., path_initial_model_for_weight_conversion=...), which makes it a plain LoRA"
        )


def read_settings(path: Path, keys: list[str]) -> dict[str, Settings]:
    """Read the settings of an adapter by component; those that hold for every component are under "".

    They are in the metadata of the file (Diffusers), or in an adapter_config.json beside it (PEFT). The latter is read
    for files with PEFT's names of layers or of files, and for others if nothing else names an alpha.

    Args:
        path: The file.
        keys: Names of its tensors.

    Raises:
        ValueError: If the settings are malformed or not supported.
    """
    with open_safetensors(path) as file:
        metadata: dict[str, str] = file.metadata() or {}
    beside = path.parent / ADAPTER_CONFIG
    found: dict[str, dict[str, Any]] = {}
    source = str(path)
    if METADATA in metadata:
        for name, value in _object(path, metadata[METADATA]).items():
            component, dot, field = name.partition(".")
            found.setdefault(component if dot else "", {})[field if dot else name] = value
    elif _is_peft(path, keys) and beside.is_file():
        found[""], source = read_object(beside), f"{path} ({ADAPTER_CONFIG})"
    elif any(key.startswith(PEFT_PREFIX) for key in keys) and not any(key.endswith(".alpha") for key in keys):
        warnings.warn(
            f"{path}: there is no {ADAPTER_CONFIG} beside this PEFT adapter, so its alpha is unknown and taken to be "
            "its rank; put the file beside it, or set scale= to alpha / rank",
            stacklevel=4,
        )
    settings = {component: Settings(source, fields, True) for component, fields in found.items()}
    for own in settings.values():
        own.check()
    settings.setdefault("", Settings(source, {}, False))
    return settings


def _is_peft(path: Path, keys: list[str]) -> bool:
    if path.name == ADAPTER_FILE or any(key.startswith(PEFT_PREFIX) for key in keys):
        return True
    return any(".lora_A." in key for key in keys) and not any(key.endswith(".alpha") for key in keys)


def _matches(pattern: str, layer: str) -> bool:
    """Whether a pattern names a layer: the layer's path, or its end after a dot."""
    try:
        return re.fullmatch(rf"(?:.*\.)?(?:{pattern})", layer) is not None
    except re.error as error:
        raise ValueError(f"{pattern!r} is not the name of a layer: {error}") from error


def _object(path: Path, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {METADATA} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: {METADATA} holds a {type(content).__name__}, expected a JSON object")
    return content
