"""The models that a bench samples: checkpoints, and analytic problems with an exact denoiser."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any, Final, Protocol, cast

import torch
from torch import Tensor

from sadaflow.models import Seam
from sadaflow.solvers import Grid, Solver, from_scheduler_config
from sadaflow.solvers.exact import GaussianMixture

from ...accelerators import Accelerator
from ...families import Request
from ...families.hooks import with_texts
from ...files.images import edge_maps
from ...generation.fingerprint import fingerprint
from ...pipeline.inputs import initial_noise, latent_shape
from ...pipeline.pipeline import Pipeline
from ...sampling.loop import sample
from ...sampling.results import Stats


@dataclass(frozen=True)
class Made:
    """A batch of samples.

    Attributes:
        latents: (B, ...).
        images: Pictures (B, 3, H, W) in [0, 1], videos (B, frames, 3, H, W) in [0, 1], or of sounds spectrograms
            (B, 1, frames, mels). None for analytic problems.
        stats: Cost and modes.
    """

    latents: Tensor
    images: Tensor | None
    stats: Stats


class Subject(Protocol):
    """A model under test."""

    @property
    def fingerprint(self) -> str:
        """Digest that distinguishes different weights with the same name."""
        ...

    @property
    def shape(self) -> torch.Size:
        """Shape of the latents of one sample, (1, ...)."""
        ...

    @property
    def network(self) -> object:
        """The network, for accelerators that act inside it; None if there is none."""
        ...

    @property
    def calibrations(self) -> Sequence[Any]:
        """What was measured of the network, for accelerators."""
        ...

    def solver(self, name: str, steps: int, grid: Grid | None = None) -> Solver:
        """Builds a solver on the model's schedule; on `grid` if it is given."""
        ...

    def run(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        guidance: float | None,
        solver: Solver,
        accelerator: Accelerator | None,
    ) -> Made:
        """Generates one sample for each prompt and seed."""
        ...


@dataclass(frozen=True, eq=False)
class PipelineSubject:
    """A checkpoint.

    Attributes:
        pipe: Its pipeline.
        edges: For checkpoints with ControlNets: makes the edge maps that the ControlNets are shown, from the picture of
            the same sample without ControlNets.
        size: Height, width and num_frames of the samples by name, as far as they are not the checkpoint's own.
    """

    pipe: Pipeline
    edges: "_Edges | None" = None
    size: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of up to 64 values of each tensor of the backbone, the ControlNets and the autoencoder."""
        return fingerprint(cast(torch.nn.Module, part) for part in (self.pipe.backbone, self.pipe.vae))[:16]

    @cached_property
    def shape(self) -> torch.Size:
        return torch.Size((1, *latent_shape(self.pipe.family, **self.size)))

    @property
    def network(self) -> object:
        return self.pipe.backbone

    @property
    def calibrations(self) -> Sequence[Any]:
        return self.pipe.calibrations.held

    def solver(self, name: str, steps: int, grid: Grid | None = None) -> Solver:
        return self.pipe.solver(name, steps, grid, **self.size)

    def run(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        guidance: float | None,
        solver: Solver,
        accelerator: Accelerator | None,
    ) -> Made:
        request = Request(seed=seeds, guidance=guidance, **self.size)
        request = with_texts(request, self.pipe.family, prompts)
        if self.edges is not None:
            request = replace(request, control=[self.edges(request)] * self.pipe.controlnets)
        request = replace(request, solver=solver, accelerator=accelerator)
        out = self.pipe(output="tensor", progress=False, **request.arguments())
        return Made(out.latents, out.images, out.stats)


class _Edges:
    """Makes the edge maps that ControlNets are shown, and keeps those of the last batch for the next setting."""

    def __init__(self, pipe: Pipeline) -> None:
        self.pipe = pipe
        self._last: tuple[Request, Tensor] | None = None

    def __call__(self, request: Request) -> Tensor:
        """Edges (B, 3, H, W) of pictures drawn with the ControlNets at weight 0."""
        if self._last is None or self._last[0] != request:
            blank = torch.zeros(len(request.prompts), 3, *self.pipe.family.default_size)
            unseen = replace(request, control=[blank] * self.pipe.controlnets, control_scale=0.0)
            unseen = replace(unseen, steps=_EDGES_STEPS, solver="dpmpp2m")
            pictures = self.pipe(output="tensor", progress=False, **unseen.arguments()).images
            self._last = (request, edge_maps(pictures.float().cpu()))
        return self._last[1]


_EDGES_STEPS: Final = 20
_SHAPE: Final = (3, 8, 8)
_VP: Final = {
    "_class_name": "DPMSolverMultistepScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
_FLOW: Final = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "num_train_timesteps": 1000}


@lru_cache(maxsize=1)
def mixture() -> GaussianMixture:
    """Returns a mixture of six Gaussians in 192 dimensions, each with an eigenbasis of its own.

    Variances fall by a power law, as those of pictures do over frequencies. The variance between the means and the
    variance within a Gaussian are about equal, and add up to 1 per dimension.
    """
    size, modes, generator = 192, 6, torch.Generator().manual_seed(0)
    spectrum = torch.arange(1, size + 1, dtype=torch.float64) ** -1.5
    spectrum = 0.5 * size * spectrum / spectrum.sum()

    def basis() -> Tensor:
        return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]

    common = basis()
    means = (torch.randn(modes, size, generator=generator, dtype=torch.float64) * spectrum.sqrt()) @ common.mT
    bases = torch.stack([basis() for _ in range(modes)])
    covariances = bases @ torch.diag(spectrum) @ bases.mT
    weights = torch.full((modes,), 1 / modes, dtype=torch.float64)
    return GaussianMixture(weights, means, (covariances + covariances.mT) / 2)


@dataclass(frozen=True)
class _Exact:
    """The exact denoiser of the mixture."""

    solver: Solver

    def __call__(self, x: Tensor, step: int) -> Tensor:
        node = self.solver.nodes[step]
        return mixture().x0(x, node.alpha, node.sigma)

    def evaluate(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam) -> Tensor:
        return self(x, step)


@dataclass(frozen=True, eq=False)
class MixtureSubject:
    """The Gaussian mixture on the schedule of a scheduler config, in float64. It ignores prompts and has no pictures.

    Attributes:
        config: Scheduler config in the layout of Diffusers.
    """

    config: Mapping[str, Any]
    fingerprint: str = "mixture-1"
    shape: torch.Size = torch.Size((1, *_SHAPE))
    network: object = None
    calibrations: Sequence[Any] = ()

    def solver(self, name: str, steps: int, grid: Grid | None = None) -> Solver:
        steps = steps if grid is None else grid.n_steps
        return from_scheduler_config(self.config, steps, solver=name, grid=grid).solver

    def run(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        guidance: float | None,
        solver: Solver,
        accelerator: Accelerator | None,
    ) -> Made:
        sampled = sample(solver, _Exact(solver), initial_noise(_SHAPE, seeds).double(), accelerator)
        return Made(sampled.x, None, sampled.stats)


ANALYTIC: Final[Mapping[str, Callable[[], Subject]]] = {
    "mixture-vp": lambda: MixtureSubject(_VP),
    "mixture-flow": lambda: MixtureSubject(_FLOW),
}


WITH: Final = " + "


class Subjects:
    """Loads models by name, and keeps the last. "BASE + NET" is a base checkpoint with a ControlNet.

    Args:
        device: Where they compute.
        dtype: Type of their weights.
        size: See `PipelineSubject`.
        find: From the name of a model to what `Pipeline.from_pretrained` takes.
    """

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype,
        size: Mapping[str, Any] = MappingProxyType({}),
        find: Callable[[str], str] = str,
    ) -> None:
        self.device, self.dtype, self.size, self.find = device, dtype, size, find
        self._last: tuple[str, Subject] | None = None

    def __call__(self, model: str) -> Subject:
        if self._last is None or self._last[0] != model:
            self._last = None  # frees its memory before the next model is loaded
            self._last = (model, self._load(model))
        return self._last[1]

    def _load(self, model: str) -> Subject:
        if model in ANALYTIC:
            return ANALYTIC[model]()
        base, *nets = (name.strip() for name in model.split(WITH))
        how: dict[str, Any] = {"controlnet": nets or None, "device": self.device, "dtype": self.dtype}
        pipe = Pipeline.from_pretrained(self.find(base), **how)
        return PipelineSubject(pipe, _Edges(pipe) if nets else None, self.size)
