"""Text to image: checkpoint, text encoder, backbone, solver, accelerator and autoencoder in one call."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from ..families import AudioFamily, Family, Negative, Options, Pair, Request
from ..families.values import real_number
from ..files.images import to_pil
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
from ..sampling.results import Sampled, Stats
from ..sampling.trace import Trace
from .compilation import compile_backbone
from .control import Control
from .diffusers_names import refuses_unknown
from .inputs import (
    Seed,
    check_noise,
    check_objects,
    initial_noise,
    latent_shape,
    read_accelerator,
    read_negatives,
    read_output,
    read_prompts,
    read_seeds,
    read_size,
    read_steps,
)
from .load import LoadOptions, SingleFileParts, load_pretrained, load_single_file
from .memory_need import require_memory_for_pictures
from .prepare import SchedulerSource
from .progress import progress_observer
from .turns import Turns


@dataclass(frozen=True)
class Output:
    """What a call made. `images` is a list of PIL images, a tensor (B, 3, H, W) in [0, 1], or None for "latent";
    `latents` (B, C, h, w) are at the end of the grid, in the backbone's scaling. Of a checkpoint that makes sound,
    `images` are log-mel spectrograms (B, 1, frames, mels) and `audio` (B, samples) is their sound for "audio". `trace`
    is the trajectory, where it was asked for.
    """

    images: Any
    latents: Tensor
    stats: Stats
    audio: Tensor | None = None
    sample_rate: int | None = None
    trace: Trace | None = None


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
        """The solver `name` on this checkpoint's schedule; None takes what its scheduler config names.

        `grid` is a spacing by name, or a `Grid`, which then decides the number of steps. `noise` is what a stochastic
        solver draws from. `height` and `width` in pixels matter where the schedule shifts with the size (Flux.1 dev);
        None is the checkpoint's own.
        """
        steps = read_steps(steps)
        config, tokens = self.scheduler_config, self._tokens(*read_size(height, width, None, self.family))
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
        """Sample one image per prompt.

        `negative_prompt` is one for all prompts or a list with one (or None) for each. `seed` is one for all prompts or
        one each: the same prompt and seed give the same picture in any batch. `noise` (B, C, h, w), unit normal,
        overrides it. `guidance` <= 1 leaves the negative branch out; on Flux it is the
        number that the network embeds, and `true_guidance` > 1 adds a negative branch. None is what the checkpoint
        recommends, or its kind was published with (7.5 for Stable Diffusion). `max_sequence_length` is the length of
        Flux's T5 prompt in tokens, at most what the checkpoint's tokenizer allows. `progress` None shows a bar when
        stderr is a terminal. `control` is an image for the ControlNet, or a list of one for each: PIL, which is
        stretched to the size made, or a tensor (3, H, W) or (B, 3, H, W) of that size, RGB in [0, 1]; `control_scale`
        weighs each, and it acts from `control_start` to `control_end` (fractions of the evaluations). On XL,
        `original_size`, `crop` and `target_size` tell the network of a picture's history: its size before it was
        scaled, the corner (top, left) that it was cut at, and the size wanted; None is an uncropped picture of the size
        made. A refiner is told `aesthetic_score` (6.0) in place of `target_size`. The negative branch is told the same
        (but a score of 2.5), except for what is given for it alone. `seconds` is the length of a sound. `output` is
        "pil", "tensor" or "latent", for sounds "audio", "tensor" or "latent"; None is the first. `trace` keeps the
        trajectory in `out.trace` (see `Trace` for its memory). `parallel` shares the work out among processes, which
        all make this call and all get the same. Raises ValueError before any work for arguments that do not fit.
        """
        prompts, output = read_prompts(prompt), read_output(output, self.family)
        negatives, seeds = read_negatives(negative_prompt, len(prompts)), read_seeds(seed, len(prompts))
        seconds = None if seconds is None else real_number("seconds", seconds, finite=False)
        height, width = read_size(height, width, seconds, self.family)
        guidance = self.default_guidance if guidance is None else real_number("guidance", guidance)
        options = Options(
            true_guidance,
            max_sequence_length,
            original_size,
            crop,
            target_size,
            negative_original_size,
            negative_crop,
            negative_target_size,
            aesthetic_score,
            negative_aesthetic_score,
        )
        options.refuse_idle(self.family.options, type(self.family).__name__)
        check_objects(solver, grid, parallel)
        accelerator, steps = read_accelerator(accelerator), read_steps(steps)
        noise = self._noise(noise, height, width, seeds, output)
        size = (noise.shape[2] * self.vae.config.downscale, noise.shape[3] * self.vae.config.downscale)
        chosen = solver
        if chosen is None or isinstance(chosen, str):
            chosen = self.solver(chosen, steps, grid, SeededNoise(tuple(seeds)), height=size[0], width=size[1])
        if accelerator is not None:
            check_fit(accelerator, chosen, noise.shape, self.backbone)
        controls = Control.read(
            control,
            control_scale,
            control_start,
            control_end,
            nets=self.controlnets,
            samples=len(prompts),
            size=size,
        )
        request = Request(prompts, negatives, guidance, latent_shape(self.family, *size), options)
        if parallel is not None:
            call = {**vars(request), "solver": chosen, "noise": noise, "accelerator": accelerator, "control": controls}
            parallel.require_same({**call, "dtype": self.dtype, "split_guidance": self.split_guidance}, self.device)
        with self._turns.taken(self._residence.offload is not None or self._compiled):
            denoise = self.denoiser(chosen, request, controls)
            if parallel is not None:
                denoise = parallel.denoiser(denoise)
            start = noise.to(self.device, torch.float32)
            with progress_observer(progress, chosen.n_evals) as observer, kept_layouts(self.backbone):
                sampled = sample(chosen, denoise, start, accelerator, observer=observer, trace=trace)
            del denoise, start  # what was prepared for the network, before the decoder takes its memory
            return self._output(sampled, output, seconds)

    def _noise(
        self, noise: Tensor | None, height: int | None, width: int | None, seeds: Sequence[int], output: str
    ) -> Tensor:
        """The start noise (B, C, h, w), given or drawn, once it is known that memory holds the call."""
        if noise is not None:
            check_noise(noise, len(seeds), self.family)
            height, width = (side * self.vae.config.downscale for side in noise.shape[2:])
        shape = latent_shape(self.family, height, width)
        require_memory_for_pictures(self.family, len(seeds), shape, self.device, output)
        return initial_noise(shape, seeds) if noise is None else noise

    def _output(self, sampled: Sampled, output: str, seconds: float | None) -> Output:
        """Decode what was sampled into what the call asked for."""
        images: Any = None if output == "latent" else self.family.decode(sampled.x)
        if output == "audio" and isinstance(self.family, AudioFamily):
            rate = self.family.sample_rate
            if seconds is None:
                seconds = images.shape[2] * self.family.frame_seconds
            audio = self.family.waveform(images)[:, : int(seconds * rate)]
            return Output(images, sampled.x, sampled.stats, audio, rate, trace=sampled.trace)
        return Output(to_pil(images) if output == "pil" else images, sampled.x, sampled.stats, trace=sampled.trace)

    def denoiser(self, solver: Solver, request: Request, control: Control | None = None) -> GuidedDenoiser:
        """The x0-answering callable for `request` at the evaluation points of `solver`."""
        prompted = self.family.condition(request).to(self.device)
        if control is not None:
            prompted = prompted.both(control=control.images.to(self.device, self.dtype))
        return GuidedDenoiser(
            self.backbone,
            solver.nodes,
            self.prediction,
            prompted.conditional,
            prompted.negative,
            request.guidance if prompted.guidance is None else prompted.guidance,
            self.dtype,
            None if control is None else control.settings(solver.n_evals),
            self.split_guidance,
        )

    def __getstate__(self) -> dict[str, Any]:
        """For `pickle` and `copy.deepcopy`. Raises ValueError where a copy would not be one."""
        if self._residence.offload is not None or self._residence.quantize is not None:
            how = "offload=" if self._residence.offload is not None else "quantize="
            raise ValueError(f"a pipeline with {how} cannot be copied or pickled: load it anew where it is needed")
        if self._compiled:
            raise ValueError("a compiled pipeline cannot be copied or pickled: copy it first, then compile the copy")
        return vars(self).copy()

    def _tokens(self, height: int | None, width: int | None) -> int:
        """Image tokens of the backbone at a size in pixels."""
        _, rows, columns = latent_shape(self.family, height, width)
        return rows * columns // self.family.patch**2
