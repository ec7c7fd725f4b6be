"""Samples pictures and sound from a loaded checkpoint in one call."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from sadaflow.models import Autoencoder, kept_layouts
from sadaflow.solvers import (
    Grid,
    NoiseSource,
    Prediction,
    Schedule,
    SeededNoise,
    Solver,
    from_scheduler_config,
    read_schedule,
)

from ..accelerators import Accelerator
from ..accelerators.caching.base import check_fit
from ..families import Family, Negative, Pair, Request
from ..families.options import STEPS
from ..families.request import select_arguments
from ..loading.hub.locate import Name, locate_lora
from ..loading.hub.options import HubOptions
from ..loading.lora.merge import LoraStack
from ..loading.lora.read import Lora, read_lora
from ..loading.sampling_defaults import Recommended
from ..parallel import Parallel
from ..placement.placement import Residence
from ..sampling.conditioning import Backbone
from ..sampling.denoiser import GuidedDenoiser
from ..sampling.loop import sample
from .compilation import compile_backbone
from .control import Control
from .diffusers_names import refuses_unknown
from .inputs import (
    Seed,
    check_parallel,
    complete,
    latent_shape,
    read_accelerator,
    read_output,
    read_steps,
    start_noise,
)
from .load import LoadOptions, SingleFileParts, load_pretrained, load_single_file
from .output import Output, decode_output
from .prepare import SchedulerSource
from .progress import progress_observer
from .turns import Turns


class Pipeline:
    """A loaded text-to-image checkpoint. `backbone`, `vae`, `schedule` and `prediction` are public.

    `split_guidance`, False until it is set, is that of `GuidedDenoiser`.
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
    ) -> None:
        self.name = name
        self.recommended = recommended
        self.controlnets = controlnets
        self.family = family
        self.dtype = dtype
        self.device = device
        self.scheduler_config = scheduler_config
        self.schedule: Schedule
        self.prediction: Prediction
        self.schedule, self.prediction = read_schedule(scheduler_config)
        self.split_guidance = False
        self._loras = LoraStack(family.adaptable)
        self._residence = residence or Residence(device)
        self._residence.take(family.networks)
        self._frozen = self._compiled = False
        self._turns = Turns()

    @property
    def backbone(self) -> Backbone:
        return self.family.backbone

    @property
    def vae(self) -> Autoencoder:
        """The autoencoder: in the pipeline's dtype, or in float32 where that is a float16 that it overflows in (its
        config's `force_upcast`)."""
        return self.family.vae

    @property
    def default_guidance(self) -> float:
        """The `guidance` that the checkpoint recommends, or else that its kind was published with."""
        own = self.recommended.guidance
        return self.family.default_guidance if own is None else own

    @classmethod
    @refuses_unknown
    def from_pretrained(
        cls,
        model: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        variant: str | None = None,
        controlnet: Name | Sequence[Name] | None = None,
        scheduler: SchedulerSource | None = None,
        dtype: torch.dtype | str = torch.float32,
        device: str | torch.device = "cpu",
        offload: str | None = None,
        tile: int | None = None,
        quantize: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Load `model`: a Hub id, a folder in the same layout, or the name of an embedded checkpoint (None: tiny-sd).

        `controlnet` is the same of a ControlNetModel, or a list of them; `revision` is that of `model` alone.
        `scheduler` replaces the checkpoint's scheduler config: a dict, a JSON file, a folder, or a Hub id.

        `offload` keeps out of the device's memory what is not in use: "model" all networks but one, "stream" all layers
        but those that run (from host memory, or on the CPU from the files). `tile` is that of `vae`. `quantize` holds
        the large networks' weights in eight bits, "int8" or "fp8". See docs/memory.md.
        Raises ValueError for a checkpoint that cannot be honoured (naming field or tensor), FileNotFoundError,
        ConnectionError and PermissionError where it cannot be had.
        """
        hub = HubOptions(revision, variant, cache_dir, token, local_files_only)
        options = LoadOptions(controlnet, scheduler, dtype, device, offload, tile, quantize)
        return cls(**vars(load_pretrained(model, hub, options)))

    @classmethod
    @refuses_unknown
    def from_single_file(
        cls,
        file: str | os.PathLike[str],
        *,
        tokenizer: str | os.PathLike[str] | None = None,
        base: str | os.PathLike[str] | None = None,
        prediction: str | None = None,
        controlnet: Name | Sequence[Name] | None = None,
        scheduler: SchedulerSource | None = None,
        revision: str | None = None,
        dtype: torch.dtype | str = torch.float32,
        device: str | torch.device = "cpu",
        offload: str | None = None,
        tile: int | None = None,
        quantize: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Load a safetensors file in the original layout of SD 1.x, 2.x, SDXL or Flux.1: a path, or a Hub id with the
        file's name ("owner/name/file.safetensors", at `revision`).

        Configs are told by the tensors' shapes. No such file holds a tokenizer: `tokenizer` is a Hub id or a folder of
        a checkpoint in the Hub's layout that has it. `base`, alike, supplies other components that the file lacks
        (autoencoder and text encoders of Flux.1), and its tokenizers. `prediction` is "epsilon" or "v_prediction"; SD
        2.x needs it. `controlnet`, `scheduler`, `offload`, `tile` and `quantize` are as for `from_pretrained`. Raises
        ValueError naming what is missing, unexpected or misshaped.
        """
        hub = HubOptions(revision, None, cache_dir, token, local_files_only)
        options = LoadOptions(controlnet, scheduler, dtype, device, offload, tile, quantize)
        return cls(**vars(load_single_file(file, SingleFileParts(tokenizer, base, prediction), hub, options)))

    def compile(self, *, whole: bool = True, freeze: bool = False, **options: Any) -> Self:
        """Compile the backbone, and ControlNets beside it; what compiles is done at the first evaluations.

        Regions are compiled: residual blocks, and transformer blocks up to their attention and from there on. They work
        with every accelerator. With `whole`, evaluations that no accelerator enters run in one piece, which takes
        longer to compile. Numbers of samples and of tokens compile again once, for sizes in general (and for a single
        row, since one is no size in general to torch). With `freeze` the weights are made part of what is compiled in
        one piece, for good; a LoRA must come before. It pays on a CPU, and holds the weights twice. `options` are those
        of `torch.compile`. Returns the pipeline.

        With `mode="reduce-overhead"`, "max-autotune" or `backend="cudagraphs"` what runs in one piece becomes a CUDA
        graph for each number of samples; regions are compiled without.

        Raises ValueError for CUDA graphs of nothing but regions, and for a backbone of another make.
        """
        self._refuse_frozen()
        self._residence.refuse_compiling()
        compile_backbone(self.backbone, whole, freeze, options)
        self._compiled, self._frozen = True, whole and freeze
        return self

    @refuses_unknown
    def load_lora(
        self,
        model: str | os.PathLike[str],
        scale: float = 1.0,
        weight_name: str | None = None,
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> Lora:
        """Merge a LoRA into the weights, `scale` times: a file, a folder or a Hub id, of which `weight_name` is the
        file. Several add up. Returns what `unload_lora` takes; see `lora` for the memory it costs.

        Raises ValueError for keys that belong to no layer, for factors that do not fit and for other kinds of adapter.
        """
        self._refuse_frozen()
        hub = HubOptions(revision, None, cache_dir, token, local_files_only)
        lora = read_lora(locate_lora(model, weight_name, hub), self._loras.targets, scale)
        with self._residence.changing():
            self._loras.add(lora)
        return lora

    def unload_lora(self, lora: Lora) -> None:
        """Take a LoRA out of the weights: without any, they are bit for bit what they were before."""
        self._refuse_frozen()
        with self._residence.changing():
            self._loras.remove(lora)

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
    ) -> Solver:
        """A solver on this checkpoint's schedule.

        Args:
            name: Name of the solver; None takes what the scheduler config names.
            steps: Number of steps.
            grid: Name of a time grid, or a `Grid`, which then decides the number of steps; None is the config's.
            noise: What a stochastic solver draws from.
            height: Height in pixels, None for the checkpoint's own; matters if the schedule shifts with the size.
            width: Width in pixels, likewise.

        Raises:
            ValueError: If a name is unknown, or if solver, grid and steps do not fit each other.
        """
        steps, sized = read_steps(steps), Request(height=height, width=width)
        _, rows, columns = latent_shape(self.family, sized.height, sized.width)
        config, tokens = self.scheduler_config, rows * columns // self.family.patch**2
        if isinstance(grid, Grid):
            named: Any = from_scheduler_config(config, grid.n_steps, solver=name, noise=noise, image_tokens=tokens)
            return replace(named.solver, grid=grid)
        return from_scheduler_config(config, steps, solver=name, grid=grid, noise=noise, image_tokens=tokens).solver

    @refuses_unknown
    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        negative_prompt: Negative = None,
        steps: int = 50,
        solver: str | Solver | None = None,
        grid: str | Grid | None = None,
        guidance: float | None = None,
        true_guidance: float = 1.0,
        height: int | None = None,
        width: int | None = None,
        seed: Seed = 0,
        noise: Tensor | None = None,
        accelerator: str | Accelerator | None = None,
        control: Any = None,
        control_scale: float | Sequence[float] = 1.0,
        control_start: float | Sequence[float] = 0.0,
        control_end: float | Sequence[float] = 1.0,
        max_sequence_length: int = 512,
        original_size: Pair | None = None,
        crop: Pair | None = None,
        target_size: Pair | None = None,
        negative_original_size: Pair | None = None,
        negative_crop: Pair | None = None,
        negative_target_size: Pair | None = None,
        aesthetic_score: float | None = None,
        negative_aesthetic_score: float | None = None,
        seconds: float | None = None,
        output: str | None = None,
        progress: bool | None = None,
        trace: bool = False,
        parallel: Parallel | None = None,
    ) -> Output:
        """Sample one image, or sound, for each prompt. The same prompt and seed give the same picture in any batch.

        None leaves an argument to the checkpoint. `SamplingOptions`, `ControlOptions`, `SoundOptions`, `FluxOptions`
        and `XLOptions` in sadaflow/families/options.py document the arguments that only some checkpoints have.

        Args:
            prompt: A prompt, or a sequence with one for each sample.
            negative_prompt: A negative prompt for all samples, or a sequence with one (or None) for each.
            steps: Number of steps.
            solver: Name of a solver, or a solver; None takes what the scheduler config names.
            grid: Name of a time grid, or a `Grid`; None is the scheduler config's.
            guidance: Scale of classifier-free guidance; up to 1 there is no negative branch. On Flux.1 dev the number
                that the network embeds.
            true_guidance: On Flux.1, scale of guidance by the negative prompt.
            height, width: Size in pixels.
            seed: Seed of the start noise for all samples, or a sequence with one for each.
            noise: Start noise (B, C, h, w), unit normal, in place of the seeds'; it decides the size.
            accelerator: Name of an accelerator, or an accelerator; None evaluates the network at every step.
            control: An image for the ControlNet, or a list with one for each: PIL, array, or tensor (3, H, W) or
                (B, 3, H, W), RGB in [0, 1]. PIL images and arrays are stretched to the size made.
            control_scale, control_start, control_end: Weight of the ControlNets, and the fractions of the evaluations
                between which they act; a number, or a sequence with one for each.
            max_sequence_length: On Flux.1, length of the T5 prompt in tokens.
            original_size, crop, target_size: On SDXL, the history of the picture: (height, width) before scaling,
                corner (top, left) of the crop, (height, width) after scaling.
            negative_original_size, negative_crop, negative_target_size: The same for the negative branch.
            aesthetic_score, negative_aesthetic_score: On SDXL's refiner, scores in place of the target sizes.
            seconds: Length of a sound.
            output: "pil", "tensor" or "latent"; for sounds "audio", "tensor" or "latent"; None is the first of them.
            progress: Whether to show a progress bar; None shows it on a terminal.
            trace: Whether to keep the trajectory in the output (see `Trace` for its memory).
            parallel: Processes that share the work; all of them make this call and get the same output.

        Raises:
            ValueError: If an argument is invalid, before any work.
        """
        given = Request(**select_arguments(locals()))
        output = read_output(output, self.family)
        check_parallel(parallel)
        request = complete(given, self.family, self._defaults, device=self.device, output=output)
        start = start_noise(request, self.family)
        sampler = self._solver_for(request)
        if (reuse := read_accelerator(request.accelerator)) is not None:
            check_fit(reuse, sampler, start.shape, self.backbone)
        controls = Control.of(request, self.controlnets)
        if parallel is not None:
            objects = {"solver": sampler, "noise": start, "accelerator": reuse, "control": controls, "seed": None}
            decided = {"dtype": self.dtype, "split_guidance": self.split_guidance}
            parallel.require_same({**request.arguments(), **objects, **decided}, self.device)
        with self._turns.taken(self._residence.offload is not None or self._compiled):
            denoise = self.denoiser(sampler, request, controls)
            if parallel is not None:
                denoise = parallel.denoiser(denoise)
            start = start.to(self.device, torch.float32)
            with progress_observer(progress, sampler.n_evals) as observer, kept_layouts(self.backbone):
                sampled = sample(sampler, denoise, start, reuse, observer=observer, trace=trace)
            del denoise, start  # frees the conditioning before the decoder needs memory
            return decode_output(self.family, sampled, output, request.seconds)

    @property
    def _defaults(self) -> dict[str, Any]:
        """Steps and guidance of a request that leaves them to the checkpoint."""
        return {"steps": self.recommended.steps or STEPS, "guidance": self.default_guidance}

    def _solver_for(self, request: Request) -> Solver:
        """The solver of a complete request; its noise is drawn from the request's seeds."""
        if request.solver is not None and not isinstance(request.solver, str):
            return request.solver
        (height, width), noise = request.size, SeededNoise(tuple(request.seeds))
        return self.solver(request.solver, request.steps or STEPS, request.grid, noise, height=height, width=width)

    def denoiser(self, solver: Solver, request: Request, control: Control | None = None) -> GuidedDenoiser:
        """Encode a request as a denoiser, which predicts x0 at the evaluation points of a solver.

        Args:
            solver: The solver.
            request: Prompts and their conditioning; guidance and size that are None are the checkpoint's own.
            control: Images and weights of the ControlNets; None is none.
        """
        height, width = self.family.default_size
        request = request.filled(**self._defaults, height=height, width=width)
        prompted = self.family.condition(request).to(self.device)
        if control is not None:
            prompted = prompted.both(control=control.images.to(self.device, self.dtype))
        return GuidedDenoiser(
            self.backbone,
            solver.nodes,
            self.prediction,
            prompted.conditional,
            prompted.negative,
            request.guidance_scale if prompted.guidance is None else prompted.guidance,
            self.dtype,
            None if control is None else control.settings(solver.n_evals),
            self.split_guidance,
        )

    def __getstate__(self) -> dict[str, Any]:
        """The state for `pickle` and `copy.deepcopy`.

        Raises:
            ValueError: If the pipeline is offloaded, quantized or compiled.
        """
        if self._residence.offload is not None or self._residence.quantize is not None:
            how = "offload=" if self._residence.offload is not None else "quantize="
            raise ValueError(f"a pipeline with {how} cannot be copied or pickled: load it anew where it is needed")
        if self._compiled:
            raise ValueError("a compiled pipeline cannot be copied or pickled: copy it first, then compile the copy")
        return vars(self).copy()
