"""Published JSON files in a folder beside the repository or in SADAFLOW_REAL_CONFIGS; often there are none."""

import json
import os
from pathlib import Path
from typing import Any

Json = dict[str, Any]

_PLACES = (Path(__file__).parents[4] / "shared/real-configs", Path(os.environ.get("SADAFLOW_REAL_CONFIGS", ".")))
_READ = ("scheduler_config.json", "config.json", "tokenizer_config.json", "special_tokens_map.json")
_UNREAD = ("feature_extractor", "image_encoder", "safety_checker", "vae_decoder", "vae_encoder", "vae_1_0")


def real_root() -> Path | None:
    """The folder of published configs, one folder a model, or None."""
    return next((path for path in _PLACES if (path / "SOURCES.md").is_file()), None)


def real_folders(name: str = "model_index.json") -> list[Path]:
    """The models' folders that have a file of that name at the top."""
    root = real_root()
    return [] if root is None else sorted(path.parent for path in root.glob(f"*/{name}"))


def read_real(folder: Path) -> dict[str, Json]:
    """The JSON files of a model that a pipeline is loaded from, by path."""
    files = {"model_index.json": read_json(folder / "model_index.json")}
    for path in sorted(folder.glob("*/*.json")):
        if path.name in _READ and path.parent.name not in _UNREAD:
            files[f"{path.parent.name}/{path.name}"] = read_json(path)
    return files


def read_json(path: Path) -> Json:
    content: Json = json.loads(path.read_text("utf-8-sig"))
    return content
