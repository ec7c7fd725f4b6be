"""The models that a bench samples, by name: checkpoints, and the analytic problems."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, cast

import torch
from torch import Tensor

from sadaflow.solvers import Grid, Solver

from ...accelerators import Accelerator
from ...families import Request
from ...families.hooks import with_texts
from ...files.images import edge_maps
from ...generation.fingerprint import fingerprint
from ...pipeline.inputs import latent_shape
from ...pipeline.pipeline import Pipeline
from .mixture import ANALYTIC
from .subject import Made, Subject

_EDGES_STEPS: Final = 20
WITH: Final = " + "


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
