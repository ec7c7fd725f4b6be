"""The two that are compared: a checkpoint in our hands, and in those of Diffusers' pipeline for it."""

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from einops import rearrange
from torch import Tensor

from ...accelerators import Accelerator
from ...device.timing import Stopwatch
from ...families.flux import Flux
from ...loading.json_file import read_object
from ...pipeline.pipeline import Pipeline

OURS, THEIRS = "sadaflow", "diffusers"
SCHEDULERS: Final = {
    "ddim": "DDIMScheduler",
    "dpmpp2m": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
}


@dataclass(frozen=True)
class Task:
    """What both are asked for: `noise` (B, C, h, w) is unit normal, `solver` None is the checkpoint's own."""

    prompts: Sequence[str]
    noise: Tensor
    steps: int
    guidance: float
    solver: str | None = None
    tokens: int | None = None
    """Length of Flux's T5 prompt."""

    @property
    def size(self) -> tuple[int, int]:
        """Of the latents."""
        return self.noise.shape[-2], self.noise.shape[-1]


@dataclass(frozen=True)
class Ran:
    """One call: latents (B, C, h, w) where they were asked for, seconds of the whole call and of those in the network.

    `loop` are the seconds of the sampling loop, `nfe` the evaluations a sample, `modes` what was done at each step.
    """

    latents: Tensor | None
    seconds: float
    network: float
    loop: float | None = None
    nfe: float | None = None
    modes: Sequence[Sequence[str]] = ()


class Side(Protocol):
    """A loaded checkpoint."""

    def run(self, task: Task, *, latent: bool = False) -> Ran:
        """Sample `task`, to pictures or, if `latent`, to latents only."""
        ...


class Ours:
    """The checkpoint in `folder`, sampled by this library; compiled in one piece if so wanted, on a CPU frozen."""

    def __init__(
        self, folder: Path, dtype: torch.dtype, device: torch.device, compiled: bool = False, mode: str | None = None
    ) -> None:
        self.pipe = Pipeline.from_pretrained(folder, dtype=dtype, device=device)
        if compiled:
            self.pipe.compile(freeze=device.type == "cpu", mode=mode)
        self.device = device

    def run(self, task: Task, *, latent: bool = False, accelerator: Accelerator | None = None) -> Ran:
        watch = Stopwatch(self.device)
        further: dict[str, Any] = {} if task.tokens is None else {"max_sequence_length": task.tokens}
        began = watch.now()
        out = self.pipe(
            list(task.prompts),
            noise=task.noise,
            steps=task.steps,
            solver=task.solver,
            guidance=task.guidance,
            accelerator=accelerator,
            output="latent" if latent else "tensor",
            progress=False,
            **further,
        )
        seconds, stats = watch.now() - began, out.stats
        nfe = sum(stats.nfe) / len(stats.nfe)
        return Ran(out.latents, seconds, stats.network_seconds, stats.seconds, nfe, stats.modes)


class Theirs:
    """The checkpoint in `folder`, sampled by Diffusers: the pipeline as `from_pretrained` gives it.

    `solver` puts the scheduler of that name in place of the checkpoint's; `compiled` compiles the network as Diffusers'
    documentation does, `torch.compile` of all of it, in `mode`. Raises ImportError without Diffusers,
    ValueError for a solver that it has not for this checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        dtype: torch.dtype,
        device: torch.device,
        solver: str | None = None,
        compiled: bool = False,
        mode: str | None = None,
    ) -> None:
        diffusers = diffusers_module()
        further = {} if _kind(folder) != "StableDiffusionXLPipeline" else {"add_watermarker": False}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of a name that its older versions know alone
            loaded = diffusers.DiffusionPipeline.from_pretrained(
                folder, torch_dtype=dtype, local_files_only=True, **further
            )
        self.pipe: Any = loaded.to(device)
        self.pipe.set_progress_bar_config(disable=True)
        self.device = device
        self.flux = _kind(folder) == "FluxPipeline"
        if solver is not None and not (self.flux and solver == "euler"):
            if self.flux or solver not in SCHEDULERS:
                known = "euler" if self.flux else ", ".join(SCHEDULERS)
                raise ValueError(f"no scheduler of Diffusers is known here for solver {solver!r}; known: {known}")
            self.pipe.scheduler = getattr(diffusers, SCHEDULERS[solver]).from_config(self.pipe.scheduler.config)
        self._parts: list[AbstractContextManager[None]] = []
        self._watch = Stopwatch(device)
        part = "transformer" if self.flux else "unet"
        if compiled:
            setattr(self.pipe, part, torch.compile(getattr(self.pipe, part), mode=mode))
        network = getattr(self.pipe, part)
        network.register_forward_pre_hook(self._enter)
        network.register_forward_hook(self._leave)

    def run(self, task: Task, *, latent: bool = False) -> Ran:
        watch = self._watch = Stopwatch(self.device)
        height, width = (side * self.pipe.vae_scale_factor for side in task.size)
        noise = task.noise.to(self.device, self.pipe.dtype)
        began = watch.now()
        made = self.pipe(
            list(task.prompts),
            latents=packed(noise) if self.flux else noise,
            num_inference_steps=task.steps,
            guidance_scale=task.guidance,
            height=height,
            width=width,
            output_type="latent" if latent else "pt",
            **({} if task.tokens is None else {"max_sequence_length": task.tokens}),
        )[0]
        seconds = watch.now() - began
        latents = None
        if latent:
            latents = unpacked(made, task.size) if self.flux else made
        return Ran(latents, seconds, watch.seconds("network"))

    def _enter(self, module: object, inputs: object) -> None:
        self._parts.append(self._watch.measuring("network"))
        self._parts[-1].__enter__()

    def _leave(self, module: object, inputs: object, outputs: object) -> None:
        self._parts.pop().__exit__(None, None, None)


def diffusers_module() -> Any:
    """The `diffusers` package, quiet; ImportError that says how to get it, or to do without."""
    try:
        import diffusers
    except ImportError as error:
        raise ImportError(
            "the comparison needs Diffusers: pip install 'sadaflow[dev]' (or diffusers itself); --alone does without"
        ) from error
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    return diffusers


def task_for(
    pipe: Pipeline, batch: int, steps: int, size: int | None, guidance: float | None, solver: str | None
) -> Task:
    """What to ask of a checkpoint: `size` in pixels and `guidance` are its own unless given."""
    family = pipe.family
    sides = family.default_size if size is None else (size, size)
    downscale = pipe.vae.config.downscale
    if any(side < downscale or side % (downscale * family.patch) for side in sides):
        raise ValueError(f"a size of {sides[0]} is no multiple of the {downscale * family.patch} pixels per token")
    shape = (batch, family.latent_channels, *(side // downscale for side in sides))
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(pipe.dtype).float()  # as both hold it
    prompts = [f"red apple {number}" for number in range(batch)]
    tokens = min(family.t5.longest, family.t5.tokenizer.model_max_length) if isinstance(family, Flux) else None
    return Task(prompts, noise, steps, pipe.default_guidance if guidance is None else guidance, solver, tokens)


def packed(latents: Tensor) -> Tensor:
    """Latents (B, C, h, w) as Diffusers' Flux pipeline takes them, (B, tokens, 4 C)."""
    return rearrange(latents, "b c (h p) (w q) -> b (h w) (c p q)", p=2, q=2)


def unpacked(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse, for latents of `size` (h, w)."""
    return rearrange(tokens, "b (h w) (c p q) -> b c (h p) (w q)", h=size[0] // 2, p=2, q=2)


def _kind(folder: Path) -> str:
    return str(read_object(folder / "model_index.json").get("_class_name"))
