"""Damaged checkpoints: the JSON files of published ones with one field wrong, loaded and sampled.

    python docs/scripts/measure_mutations.py [NUMBER]

Each of NUMBER (1000) mutations changes, removes or adds a field of one file of a small copy of SD 1.5, SD 2.1, SDXL or
Flux.1 dev, or damages its text. It counts what came of them, and prints every error that does not name the file or its
folder, every error of another kind than ValueError and OSError, and the fields whose change gave another picture.
"""

import copy
import json
import math
import random
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from support.published.compare import our_latents
from support.published.folders import FOLDERS
from support.published.write import write_folder

MODELS = ("sd-1.5", "sd-2.1", "sdxl-base", "flux.1-dev")
VALUES = (
    None, True, False, -1, 0, 1, 3, 7.5, 10**9, -1e308, math.nan, math.inf, "", "x" * 500, "../..", "/etc/passwd",
    [], {}, [1, 2], ["x"], {"x": 1}, "epsilon", "linear",
)  # fmt: skip


def is_read(path: Path) -> bool:
    """Whether a JSON file is a setting, and not a vocabulary."""
    return path.name not in ("vocab.json", "tokenizer.json")


def mutated(text: str, draw: random.Random) -> tuple[str, str]:
    """JSON text with one thing wrong, and what it is."""
    content = json.loads(text)
    name = draw.choice(sorted(content))
    match draw.randrange(5):
        case 0 | 1:
            content[name] = copy.deepcopy(draw.choice(VALUES))
            return json.dumps(content), f"{name}={content[name]!r:.40}"
        case 2:
            del content[name]
            return json.dumps(content), f"{name} removed"
        case 3:
            content[new := f"new_{draw.randrange(100)}"] = draw.choice(VALUES)
            return json.dumps(content), f"{new}={content[new]!r:.40}"
        case _:
            at = draw.randrange(len(text))
            return text[:at] + draw.choice(("", "}", "\x00", '"')) + text[at + draw.randrange(5) :], "text damaged"


def outcome(folder: Path, path: Path, plain: torch.Tensor) -> tuple[str, str]:
    """What loading and sampling gave: a word, and the error."""
    try:
        latents = our_latents(folder, steps=2)
    except (ValueError, OSError) as error:
        named = any(str(place) in str(error) for place in (path, path.parent, path.relative_to(folder)))
        return "refused, file named" if named else "refused, file not named", str(error)
    except BaseException as error:
        return f"raised {type(error).__name__}", str(error)
    return ("the same picture" if torch.equal(latents, plain) else "another picture"), ""


def main(number: int) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    draw, counts, lines = random.Random(0), Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as work:
        folders = [write_folder(Path(work) / name, FOLDERS[name]) for name in MODELS]
        plain = {folder: our_latents(folder, steps=2) for folder in folders}
        files = {folder: [path for path in sorted(folder.rglob("*.json")) if is_read(path)] for folder in folders}
        for _ in range(number):
            folder = draw.choice(folders)
            path = draw.choice(files[folder])
            text = path.read_text()
            changed, what = mutated(text, draw)
            path.write_text(changed)
            found, error = outcome(folder, path, plain[folder])
            path.write_text(text)
            counts[found] += 1
            if found not in ("refused, file named", "the same picture"):
                lines[f"{found}: {path.parent.name}/{path.name}: {what}: {error[:160]}"] += 1
    for line in sorted(lines):
        print(line)
    for found, count in counts.most_common():
        print(f"{count:6d} {found}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
