"""What `generate` and `compare` would do, without doing it: `--dry-run`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..families.request import Request
from ..generation.prompt_file import read_prompt_file
from ..guidance import guidance_text
from ..loading.embedded import DEFAULT, embedded
from ..pipeline.inputs import complete
from ..pipeline.pipeline import Pipeline
from ..pipeline.unloaded import unloaded_pipeline
from .flags import chosen_device
from .load import filled_request, quiet_libraries
from .options import Options

_SHOWN = 3  # prompts that are written out
_NAMED = ("controlnet", "vae", "lora", "embedding", "scheduler", "tokenizer", "base", "offload", "quantize", "tile")


def describe_run(options: Options, outs: Sequence[Path]) -> str:
    """What a command would do, in lines of a label and a value; configs are read and weights are not.

    Args:
        options: The flags, which have been checked.
        outs: The files or the folder that it would write; empty if only the download tells.

    Raises:
        ValueError: If the request does not fit the checkpoint.
        FileNotFoundError, ConnectionError, PermissionError, OSError: If a config cannot be fetched.
    """
    rows: list[tuple[str, object]] = []
    if options.single_file:
        rows.append(("model", f"{options.model}, a single file: what is not given is the file's"))
        rows += _settings(options.request)
    else:
        quiet_libraries()
        pipe, missing = unloaded_pipeline(options.model, **options.given("revision", "variant", "scheduler"))
        rows.append(("model", f"{options.model or DEFAULT}: {type(pipe.family).__name__}, {_where(options, pipe)}"))
        total = sum(file.size or 0 for file in missing)
        rows.append(("download", f"{len(missing)} files, {total / 1e9:.2f} GB" if missing else "nothing"))
        rows += _settings(_completed(options, pipe))
    rows += [(name, _listed(value)) for name, value in options.given(*_NAMED).items()]
    rows += [("device", f"{chosen_device(options.device)}, {options.dtype}"), *_prompts(options)]
    rows += [("writes", path) for path in outs] or [("writes", "files named by what the checkpoint makes")]
    rows.append(("", "nothing was sampled or written: leave out --dry-run"))
    return "\n".join(f"{label:<13}{value}" for label, value in rows)


def _where(options: Options, pipe: Pipeline) -> str:
    folder = Path(embedded(options.model))
    return str(folder.resolve()) if folder.exists() else f"commit {pipe.name}"


def _completed(options: Options, pipe: Pipeline) -> Request:
    """The request as it would be sampled; a file of prompts is represented by one of them."""
    request = filled_request(options, pipe)
    if request.prompts or not hasattr(options, "prompts"):
        return complete(request, pipe.family, {}, device=chosen_device(options.device), output="latent")
    return request


def _settings(request: Request) -> list[tuple[str, object]]:
    """What decides the result, but for the prompts."""
    left = "the checkpoint's"
    speedup = "" if request.speedup is None else f" speedup={request.speedup:g}"
    size = left if request.height is None or request.width is None else f"{request.height} x {request.width} pixels"
    guidance: Any = left if request.guidance is None else guidance_text(request.guidance)
    return [
        ("steps", request.steps or left),
        ("solver", request.solver or left),
        ("grid", request.grid or left),
        ("accelerator", f"{request.accelerator or 'none'}{speedup}"),
        ("guidance", guidance),
        ("size", f"{size} (height x width)" if size != left else size),
        ("seed", _listed(request.seed)),
    ]


def _prompts(options: Options) -> list[tuple[str, object]]:
    file = getattr(options, "prompts", None)
    if file is not None:
        return [("prompts", f"{len(read_prompt_file(file, options.request.seed))} of {file}")]
    prompts = options.request.prompts
    rows: list[tuple[str, object]] = [("prompt", prompt) for prompt in prompts[:_SHOWN]]
    return rows + ([("", f"and {len(prompts) - _SHOWN} more")] if len(prompts) > _SHOWN else [])


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
