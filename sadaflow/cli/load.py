"""Loads what the flags of `generate` and `compare` name."""

import logging
import sys
from dataclasses import replace
from typing import Any

import torch

from .. import __version__
from ..accelerators.default import AUTO, DEFAULT, refusal
from ..families.options import PLAIN, STEPS
from ..families.request import Request
from ..files.images import read_image
from ..generation.outputs import Generator, recorded_model
from ..generation.workers import Shard
from ..loading.hub.locate import locate_embedding, locate_lora
from ..pipeline.inputs import read_dtype, with_samples
from ..pipeline.inversion import SOLVER as INVERTED
from ..pipeline.pipeline import Pipeline
from .flags import chosen_device
from .options import Options
from .terminal import say

SOLVER = "dpmpp2m"  # if neither flag nor checkpoint names a solver
RECORDED = (
    *("controlnet", "lora", "lora_scale", "embedding", "embedding_token", "scheduler", "variant"),
    *("tokenizer", "base", "prediction", "tile", "quantize", "vae"),
)


def load_generator(options: Options) -> Generator:
    """Load the pipeline, and fill in what the checkpoint recommends for arguments that were not given."""
    pictures = [read_image(name) for name in options.pictures]
    pipe = load_pipeline(options)
    request = filled_request(options, pipe)
    if pictures:
        request = replace(request, control=pictures)
    names: dict[str, Any] = {"control": options.pictures} if pictures else {}
    dtype = {} if options.dtype == "float32" else {"dtype": options.dtype}
    return Generator(
        pipe,
        request,
        recorded_model(options.model, pipe.name),
        {**names, **options.given(*RECORDED), **dtype},
        {"sadaflow": __version__, "torch": torch.__version__},
    )


def load_pipeline(options: Options) -> Pipeline:
    """Load the pipeline with its LoRAs and embeddings; small files are fetched before large ones."""
    where = chosen_device(options.device)
    quiet_libraries()
    loras = [locate_lora(name) for name in options.lora or ()]
    embeddings = [locate_embedding(name) for name in options.embedding or ()]
    how: dict[str, Any] = {"dtype": read_dtype(options.dtype), "device": where}
    how |= options.given("revision", "variant", "scheduler", "controlnet", "tokenizer", "base", "prediction")
    how |= options.given("offload", "tile", "quantize", "vae")
    load = Pipeline.from_single_file if options.single_file else Pipeline.from_pretrained
    pipe = load(options.model, **how)  # type: ignore[arg-type]  # a single file always has a name
    for path, scale in zip(loras, options.lora_scales, strict=True):
        pipe.load_lora(path, scale)
    for path, word in zip(embeddings, options.embedding_tokens, strict=True):
        pipe.load_embedding(path, word)
    return pipe


def filled_request(options: Options, pipe: Pipeline) -> Request:
    """The request, with the checkpoint's steps, solver, guidance and accelerator where the flags name none."""
    recommended = pipe.recommended
    request = with_samples(options.request, pipe.family)
    own = recommended.solver if request.source_prompt is None else INVERTED
    request = request.filled(steps=recommended.steps, solver=own)
    solver = SOLVER if options.scheduler is None else None  # a config that is named brings its own solver
    request = request.filled(steps=STEPS, solver=solver, guidance=pipe.default_guidance)
    if request.speedup is not None:
        return replace(request, accelerator=AUTO)
    if request.accelerator is None:
        return replace(request, accelerator=_default_accelerator(pipe, request))
    return replace(request, accelerator=None) if request.accelerator == PLAIN else request


def _default_accelerator(pipe: Pipeline, request: Request) -> str | None:
    """The default accelerator; None, with a note, if it does not fit solver and steps."""
    name = request.solver if isinstance(request.solver, str) else None
    if request.strength == 0:
        return None
    solver = pipe.solver(name, request.steps or STEPS, request.grid, height=request.height, width=request.width)
    reason = refusal(DEFAULT, solver if not request.starts_from_data else pipe.part(solver, request))
    if reason is None:
        return DEFAULT
    if Shard.current().leads:
        say(f"note: sampled without an accelerator, since {reason.partition(';')[0]}", err=True)
    return None


def quiet_libraries() -> None:
    """Silence the logging and progress bars of other libraries; bars stay on a terminal, and errors are still raised.

    torchao logs when transformers imports it, if it is installed.
    """
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    for library in ("huggingface_hub", "transformers", "matplotlib", "torchao", "torch.utils._pytree"):
        logging.getLogger(library).setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    if not sys.stderr.isatty():
        disable_progress_bars()
