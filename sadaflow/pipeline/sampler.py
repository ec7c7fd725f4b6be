"""Samples requests with the networks of a loaded checkpoint."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor

from sadaflow.models import Autoencoder, kept_layouts
from sadaflow.solvers import Adaptive, Grid, NoiseSource, SeededNoise, Solver, from_scheduler_config, read_schedule

from ..accelerators.caching.base import check_fit
from ..device.freed_memory import retain_freed_memory
from ..families import Family, Request
from ..families.base import Prompted
from ..families.hooks import scheduler_of_call
from ..families.options import STEPS
from ..families.picture_options import IMAGE_GUIDANCE
from ..families.pixels import Pixels
from ..families.unet import PICTURE
from ..guidance import KeepLength, Late, as_rule
from ..guidance.compose import further_prompts
from ..loading.embeddings import Embedding
from ..loading.lora.merge import LoraStack
from ..loading.mapped_weights import lay_out, reads_mapped_weights
from ..loading.sampling_defaults import Recommended
from ..parallel import Parallel
from ..placement.placement import Residence, require_copyable
from ..sampling.adaptive import require_plain
from ..sampling.agreement import require_schedule
from ..sampling.conditioning import Backbone
from ..sampling.denoiser import GuidedDenoiser
from ..sampling.loop import sample
from ..sampling.observing import Observer
from .begin import Beginning, begin, unchanged
from .calibrations import NONE, Calibrations, guidance_of
from .compilation import compile_backbone
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
from .output import Output, decode_output
from .pictures import read_pictures
from .progress import progress_observer
from .turns import Turns


class Sampler:
    """A loaded checkpoint.

    Attributes:
        name: Name of the folder or file that it was loaded from.
        family: The networks, and how prompts and latents are converted for them.
        dtype: Number format in which the networks compute.
        device: Where they compute.
        scheduler_config: The scheduler config, as the published pipeline uses it.
        schedule: The noise schedule that it describes.
        prediction: What the backbone predicts.
        controlnets: Number of ControlNets beside the backbone.
        recommended: Settings that the checkpoint's authors recommend.
        calibrations: What was measured of the checkpoint; `accelerator="auto"` uses it by itself.
        split_guidance: Whether the two branches of guidance are evaluated one after the other; see `GuidedDenoiser`.

    Args:
        residence: Where the weights are kept between evaluations. None: on the device.
    """

    def __init__(
        self,
        name: str,
        family: Family,
        scheduler_config: dict[str, Any],
        *,
        dtype: torch.dtype,
        device: torch.device,
        controlnets: int = 0,
        recommended: Recommended = Recommended(),  # noqa: B008 - frozen
        residence: Residence | None = None,
        calibrations: Calibrations = NONE,
    ) -> None:
        self.name = name
        self.calibrations = calibrations
        self.recommended = recommended
        self.controlnets = controlnets
        self.family, self.dtype, self.device = family, dtype, device
        self.scheduler_config = scheduler_config
        self.schedule, self.prediction = read_schedule(scheduler_config)
        self.split_guidance = False
        self._loras = LoraStack(family.adaptable)
        self._embeddings: dict[str, Embedding] = {}
        self._residence = residence or Residence(device)
        self._residence.take(family.networks)
        self._frozen, self._compiled, self._turns = False, False, Turns()
        retain_freed_memory(device)

    @property
    def backbone(self) -> Backbone:
        """The network that is evaluated at every step."""
        return self.family.backbone

    @property
    def adapted(self) -> bool:
        """Whether LoRAs are merged."""
        return bool(self._loras)

    @property
    def vae(self) -> Autoencoder | Pixels:
        """The autoencoder, if there is one; in float32 if its config says that it overflows in float16."""
        return self.family.vae

    @property
    def default_guidance(self) -> float:
        """The guidance that the checkpoint recommends, or else that its class was published with."""
        return self.recommended.guidance if self.recommended.guidance is not None else self.family.default_guidance

    def compile(self, *, whole: bool = True, freeze: bool = False, **options: Any) -> Self:
        """Compile the backbone and its ControlNets; the first evaluations do the compiling.

        Regions are compiled, which works with every accelerator: residual blocks, and transformer blocks up to their
        attention and after it. A new batch size or token count triggers one recompilation with dynamic shapes. With
        `mode="reduce-overhead"` or `backend="cudagraphs"` the whole network is a CUDA graph for each batch size.

        Args:
            whole: Whether evaluations that no accelerator enters run the whole network compiled in one piece. It takes
                longer to compile.
            freeze: Whether the weights become constants of that piece, for good; LoRAs must be merged before. It pays
                on a CPU, and keeps the weights in memory twice.
            options: Further arguments of `torch.compile`.

        Raises:
            ValueError: If `whole=False` is combined with CUDA graphs or `freeze`, or if weights are offloaded.
        """
        self._refuse_frozen()
        self._residence.refuse_compiling()
        lay_out([self.backbone])
        compile_backbone(self.backbone, whole, freeze, options)
        self._compiled, self._frozen = True, whole and freeze
        return self

    def turn(self) -> AbstractContextManager[None]:
        """Context manager in which no other thread uses the networks, if they cannot be shared."""
        return self._turns.taken(self._residence.offload is not None or self._compiled)

    def _refuse_frozen(self) -> None:
        if self._frozen:
            raise ValueError("the weights are part of what compile(freeze=True) compiled: load the pipeline anew")

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

    @property
    def defaults(self) -> dict[str, Any]:
        """Steps and guidance of a request that leaves them to the checkpoint."""
        return {"steps": self.recommended.steps or STEPS, "guidance": self.default_guidance}

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

    def __getstate__(self) -> dict[str, Any]:
        """The state for `pickle` and `copy.deepcopy`; raises ValueError if `require_copyable` does."""
        require_copyable(self._residence, self._compiled)
        return vars(self).copy()
