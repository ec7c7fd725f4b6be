"""Samples requests with the networks of a loaded checkpoint."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from sadaflow.models import kept_layouts
from sadaflow.solvers import Adaptive, Grid, NoiseSource, SeededNoise, Solver, from_scheduler_config

from ..accelerators.caching.base import check_fit
from ..families import Request
from ..families.base import Prompted
from ..families.hooks import scheduler_of_call
from ..families.options import STEPS
from ..families.picture_options import IMAGE_GUIDANCE
from ..families.unet import PICTURE
from ..guidance import KeepLength, Late, as_rule
from ..guidance.compose import further_prompts
from ..loading.mapped_weights import reads_mapped_weights
from ..parallel import Parallel
from ..sampling.adaptive import require_plain
from ..sampling.agreement import require_schedule
from ..sampling.denoiser import GuidedDenoiser
from ..sampling.loop import sample
from ..sampling.observing import Observer
from .begin import Beginning, begin, unchanged
from .calibrations import guidance_of
from .condition import read_condition, with_condition
from .control import Control
from .diffusers_names import refuses_unknown
from .encoded import blend_of
from .grid_part import on_its_part
from .inputs import (
    check_how,
    complete,
    latent_shape,
    read_accelerator,
    read_output,
    read_steps,
    start_noise,
    with_samples,
)
from .inversion import SOLVER, inverted_request, refuse_parallel
from .loaded_checkpoint import LoadedCheckpoint
from .output import Output, decode_output
from .pictures import read_pictures
from .progress import progress_observer


class Sampler(LoadedCheckpoint):
    """A loaded checkpoint that samples requests."""

    @refuses_unknown
    def solver(
        self,
        name: str | None = None,
        steps: int = 50,
        grid: str | Grid | None = None,
        noise: NoiseSource | None = None,
        *,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
    ) -> Solver:
        """A solver on this checkpoint's schedule.

        Args:
            name: Name of the solver, with settings if wanted; None takes what the scheduler config names.
            steps: Number of steps.
            grid: Name of a time grid, or a `Grid`, which then decides the number of steps; None is the config's.
            noise: What a stochastic solver draws from.
            height: Height in pixels, None for the checkpoint's own; matters if the schedule shifts with the size.
            width: Width in pixels, likewise.
            num_frames: Number of frames of a video, likewise.

        Raises:
            ValueError: If a name is unknown, or if solver, grid and steps do not fit.
        """
        steps, sized = read_steps(steps), Request(height=height, width=width, num_frames=num_frames)
        _, *sides = latent_shape(self.family, sized.height, sized.width, sized.num_frames)
        tokens = math.prod(sides) // self.family.patch**2
        config = scheduler_of_call(self.family, self.scheduler_config, tokens, steps)
        if isinstance(grid, Grid):
            steps = grid.n_steps
        return from_scheduler_config(config, steps, solver=name, grid=grid, noise=noise, image_tokens=tokens).solver

    @reads_mapped_weights
    @torch.no_grad()
    def sample(
        self,
        request: Request,
        *,
        output: str | None = None,
        progress: bool | None = None,
        trace: bool = False,
        parallel: Parallel | None = None,
        observer: Observer | None = None,
    ) -> Output:
        """Sample a request. `Pipeline.__call__` documents the arguments that decide how it runs.

        Args:
            request: What to sample.
            output: The form of the output.
            progress: Whether to show a progress bar.
            trace: Whether to keep the trajectory.
            parallel: Processes that share the work.
            observer: Called after every step.

        Raises:
            ValueError: If the request does not fit the checkpoint, before any work.
            FloatingPointError: If the output is not finite; damaged weights are named.
        """
        output = read_output(output, self.family)
        check_how(parallel, observer)
        pictures = read_pictures(with_samples(request, self.family), self.family)
        if pictures is not None:
            request = pictures.sized(request)
        request = complete(request, self.family, self.defaults, device=self.device, output=output)
        turn = self.turn()
        if pictures is not None and request.strength == 0:
            with turn:
                return unchanged(pictures, request, self.family, output, self.device)
        noise, whole = start_noise(request, self.family), self.whole_solver_for(request)
        solver = self.part(whole, request)
        require_schedule(self.schedule, solver.nodes)
        condition = read_condition(request, self.family)
        accelerator, conditions = read_accelerator(request), condition is not None
        control = Control.of(request, self.family, self.controlnets, conditions)
        self.calibrations.check(accelerator, self.adapted, self.name)
        if isinstance(solver, Adaptive):
            fixed = {"control": control, "parallel": parallel, "blend": request.blend_prompt}
            require_plain(accelerator, trace, **{name: value is not None for name, value in fixed.items()})
        elif accelerator is not None:
            check_fit(accelerator, solver, noise.shape, self.backbone, self.calibrations.usable(self.adapted))
        if parallel is not None:
            refuse_parallel(request)
            shared = {"solver": solver, "noise": noise, "accelerator": accelerator, "control": control, "seed": None}
            shared |= {} if pictures is None else pictures.seen
            own = {"dtype": self.dtype, "split_guidance": self.split_guidance}
            parallel.require_same({**request.arguments(), **shared, **own}, self.device)
        with turn:
            noise = noise.to(self.device, torch.float32)
            begun = Beginning(noise) if pictures is None else begin(pictures, request, self.family, whole, noise)
            begun = with_condition(begun, condition, self.family, self.device)
            inverted = inverted_request(self, request, solver, begun, control)
            if inverted is not None:
                solver, begun = inverted.solver, replace(begun, x=inverted.x, clean=True)
            denoise: Any = self.denoiser(solver, request, control, begun.beside, begun.given)
            denoise = begun.blended(denoise if parallel is None else parallel.denoiser(denoise))
            total = None if isinstance(solver, Adaptive) else solver.n_evals
            with progress_observer(progress, total, observer) as watching, kept_layouts(self.backbone):
                sampled = sample(solver, denoise, begun.x, accelerator, observer=watching, trace=trace)
            sampled = replace(sampled, x=begun.ended(sampled.x))
            del denoise, noise, begun  # frees the conditioning before the decoder needs memory
            finish = None if pictures is None else partial(pictures.finished, paste=request.paste)
            made = decode_output(self.family, sampled, output, request.seconds, finish)
            return made if inverted is None else replace(made, inversion=inverted.stats)

    def solver_for(self, request: Request) -> Solver | Adaptive:
        """The solver of a complete request, on the part of its grid that a request with a picture takes.

        Its noise is drawn from the request's seeds.
        """
        return self.part(self.whole_solver_for(request), request)

    def part(self, solver: Any, request: Request) -> Any:
        """A solver on the part of its grid that a request takes: all of it, unless the request starts from a picture.

        Raises:
            ValueError: If the request leaves no step, or the solver has no grid to take a part of.
        """
        return on_its_part(solver, request, self.family)

    def whole_solver_for(self, request: Request) -> Solver | Adaptive:
        """The solver of a complete request on its whole grid; its noise is drawn from the request's seeds."""
        if request.solver is not None and not isinstance(request.solver, str):
            return request.solver
        (height, width), noise = request.size, SeededNoise(tuple(request.seeds))
        name = SOLVER if request.solver is None and request.source_prompt is not None else request.solver
        size = {"height": height, "width": width, "num_frames": request.num_frames}
        return self.solver(name, request.steps or STEPS, request.grid, noise, **size)

    def denoiser(
        self,
        solver: Solver | Adaptive,
        request: Request,
        control: Control | None = None,
        beside: Tensor | None = None,
        given: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> GuidedDenoiser:
        """Encode a request as a denoiser, which predicts x0 at the evaluation points of a solver.

        Args:
            solver: The solver.
            request: Prompts and their conditioning; guidance and size that are None are the checkpoint's own.
            control: Images and weights of the ControlNets; None is none.
            beside: What the network reads beside the latents, (1 or B, channels, h, w), or (1 or B, channels, T, h, w)
                of videos; None if nothing.
            given: Further arguments of the network, (1 or B, ...) each.
        """
        height, width = self.family.default_size
        request = request.filled(**self.defaults, height=height, width=width)
        prompted = self._prompted(request, control, beside, given)
        both = prompted.conditional, prompted.negative
        if prompted.negative is None:
            request.refuse_without_negative(prompted.guidance or request.guidance)
        chosen = request.known_guidance if prompted.guidance is None else prompted.guidance
        late = prompted.late_guidance
        guidance = request.wrapped(chosen if late is None or both[1] is None else Late(as_rule(chosen), *late))
        return GuidedDenoiser(
            self.backbone,
            solver.nodes,
            self.prediction,
            *both,
            guidance if prompted.keeps_length is None else KeepLength(as_rule(guidance), prompted.keeps_length),
            self.dtype,
            None if control is None else control.settings(len(solver.nodes)),
            self.split_guidance,
            self.calibrations.near(guidance_of(*both, guidance, request.guidance), self.adapted),
            prompted.picture,
            IMAGE_GUIDANCE if request.image_guidance is None else request.image_guidance,
            [
                self._prompted(request.of_text(text), control, beside, given).conditional
                for text in further_prompts(guidance)
            ],
            blend_of(prompted, request, len(solver.nodes)),
        )

    def _prompted(
        self, request: Request, control: Control | None, beside: Tensor | None, given: Mapping[str, Tensor]
    ) -> Prompted:
        """The encoded prompts of a request, with what else the network reads; see `denoiser`."""
        prompted = self.family.condition(request).to(self.device)
        if control is not None:
            prompted = control.beside(prompted, self.family, torch.empty(0, dtype=self.dtype, device=self.device))
        if beside is not None:
            rows = beside.to(self.dtype).expand(len(request.prompts), *beside.shape[1:])
            prompted = prompted.beside(rows, edited=getattr(self.family, "reads", None) == PICTURE)
        if given:
            samples = len(request.prompts)
            of_all = {
                name: rows.to(self.device, self.dtype).expand(samples, *rows.shape[1:]) for name, rows in given.items()
            }
            prompted = prompted.both(**of_all)
        return prompted
