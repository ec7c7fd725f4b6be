"""Writes files in the layout and under the names that the Hub's checkpoints use."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor


def published_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Text model tensors under the names that published Stable Diffusion files carry: `text_model.` before each."""
    prefix = "text_model."
    kept = {name: tensor for name, tensor in state.items() if not name.endswith("position_ids")}
    return {name if name.startswith(prefix) else prefix + name: tensor for name, tensor in kept.items()}


def write_json(path: Path, value: Any) -> None:
    """Write `value` as an indented, sorted JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
