"""The two sides that are compared: a checkpoint in this library, and in Diffusers' pipeline for it."""

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from einops import rearrange
from torch import Tensor, nn

from ...accelerators import Accelerator
from ...accelerators.caching.base import check_fit
from ...device.timing import Stopwatch
from ...loading.json_file import read_object
from ...pipeline.pipeline import Pipeline
from .task import Task

OURS, THEIRS = "sadaflow", "diffusers"
SCHEDULERS: Final = {
    "ddim": "DDIMScheduler",
    "dpmpp2m": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
}


@dataclass(frozen=True)
class Ran:
    """The measurements of one call.

    Attributes:
        latents: (B, C, h, w), if they were asked for.
        seconds: Seconds of the whole call.
        network: Seconds in the network.
        loop: Seconds of the sampling loop; None for Diffusers.
        nfe: Network evaluations per sample; None for Diffusers.
        modes: Mode of every step of every sample.
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
        """Samples `task`; with `latent`, without the decoder."""
        ...


class Ours:
    """A checkpoint in this library.

    Args:
        folder: The checkpoint.
        dtype: Type of the weights.
        device: Where the networks run.
        compiled: Whether the backbone is compiled; on a CPU with frozen weights.
        mode: Mode of `torch.compile`.
    """

    def __init__(
        self, folder: Path, dtype: torch.dtype, device: torch.device, compiled: bool = False, mode: str | None = None
    ) -> None:
        self.pipe = Pipeline.from_pretrained(folder, dtype=dtype, device=device)
        if compiled:
            self.pipe.compile(freeze=device.type == "cpu", mode=mode)
        self.device = device

    def check_fit(self, name: str, accelerator: Accelerator, task: Task) -> None:
        """Checks that an accelerator can sample a task.

        Raises:
            ValueError: If not; it names the accelerator by `name`.
        """
        try:
            solver, measured = self.pipe.solver(task.solver, task.steps), self.pipe.calibrations.held
            check_fit(accelerator, solver, task.noise.shape, self.pipe.backbone, measured)
        except ValueError as error:
            raise ValueError(f"accelerator {name!r} on {self.pipe.name}: {error}") from error

    def run(self, task: Task, *, latent: bool = False, accelerator: Accelerator | None = None) -> Ran:
        """Samples `task`; with `latent`, without the decoder."""
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
    """A checkpoint in Diffusers: the pipeline that its `from_pretrained` returns.

    Args:
        folder: The checkpoint.
        dtype: Type of the weights.
        device: Where the networks run.
        solver: Name of the solver whose scheduler replaces the checkpoint's.
        compiled: Whether the whole backbone is compiled by `torch.compile`, as Diffusers' documentation recommends.
        mode: Mode of `torch.compile`.

    Raises:
        ImportError: If Diffusers is not installed.
        ValueError: If Diffusers has no scheduler for the solver and this checkpoint.
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
        further = {} if _pipeline_class(folder) != "StableDiffusionXLPipeline" else {"add_watermarker": False}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # `torch_dtype`: older versions have no other name
            loaded = diffusers.DiffusionPipeline.from_pretrained(
                folder, torch_dtype=dtype, local_files_only=True, **further
            )
        self.pipe: Any = loaded.to(device)
        self.pipe.set_progress_bar_config(disable=True)
        self.device = device
        self.flux = _pipeline_class(folder) == "FluxPipeline"
        if solver is not None and not (self.flux and solver == "euler"):
            if self.flux or solver not in SCHEDULERS:
                known = "euler" if self.flux else ", ".join(SCHEDULERS)
                raise ValueError(f"solver {solver!r} has no counterpart in Diffusers here; known: {known}")
            self.pipe.scheduler = getattr(diffusers, SCHEDULERS[solver]).from_config(self.pipe.scheduler.config)
        self._parts: list[AbstractContextManager[None]] = []
        self._watch = Stopwatch(device)
        part = "transformer" if self.flux else "unet"
        if compiled:
            setattr(self.pipe, part, torch.compile(getattr(self.pipe, part), mode=mode))
        self.network: nn.Module = getattr(self.pipe, part)
        self.network.register_forward_pre_hook(self._enter)
        self.network.register_forward_hook(self._leave)

    def run(self, task: Task, *, latent: bool = False) -> Ran:
        """Samples `task`; with `latent`, without the decoder."""
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


def diffusers_module(
    advice: str = "pip install 'sadaflow[dev]' (or diffusers); or leave it out with --alone",
) -> Any:
    """Imports `diffusers` and silences its log.

    Args:
        advice: How to install it or to do without, for the message.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import diffusers
    except ImportError as error:
        raise ImportError(f"the comparison needs Diffusers: {advice}") from error
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    return diffusers


def packed(latents: Tensor) -> Tensor:
    """Converts latents (B, C, h, w) to the form of Diffusers' Flux pipeline, (B, tokens, 4 C)."""
    return rearrange(latents, "b c (h p) (w q) -> b (h w) (c p q)", p=2, q=2)


def unpacked(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Converts (B, tokens, 4 C) to latents (B, C, h, w) of `size` (h, w)."""
    return rearrange(tokens, "b (h w) (c p q) -> b c (h p) (w q)", h=size[0] // 2, p=2, q=2)


def _pipeline_class(folder: Path) -> str:
    return str(read_object(folder / "model_index.json").get("_class_name"))
