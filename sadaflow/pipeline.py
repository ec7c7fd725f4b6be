"""Text to image: checkpoint, text encoder, backbone, solver, accelerator and autoencoder in one call."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from sadaflow.models import Autoencoder, AutoencoderConfig, UNet, UNetConfig
from sadaflow.solvers import Grid, Schedule, Solver, from_scheduler_config

from .accelerators import Accelerator, make_accelerator
from .denoiser import GuidedDenoiser
from .hub import resolve
from .images import to_pil
from .progress import progress_observer
from .sampling import Stats, sample
from .text import ClipText
from .weights import find_weights, load_module

EMBEDDED = Path(__file__).parent / "checkpoints"
_OUTPUTS = ("pil", "tensor", "latent")


@dataclass(frozen=True)
class Output:
    """What a call made. `images` is a list of PIL images, a tensor (B, 3, H, W) in [0, 1], or None for "latent";
    `latents` (B, C, h, w) are at the end of the grid, in the backbone's scaling."""

    images: Any
    latents: Tensor
    stats: Stats
    audio: Tensor | None = None


class Pipeline:
    """A loaded text-to-image checkpoint. `backbone`, `vae`, `text`, `schedule` and `prediction` are public."""

    def __init__(
        self,
        name: str,
        backbone: UNet,
        vae: Autoencoder,
        text: ClipText,
        scheduler_config: dict[str, Any],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        setup = from_scheduler_config(scheduler_config, 50)
        self.name = name
        self.backbone = backbone
        self.vae = vae
        self.text = text
        self.scheduler_config = scheduler_config
        self.schedule: Schedule = setup.schedule
        self.prediction: str = setup.prediction
        self.dtype = dtype
        self.device = device

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        variant: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Load `model`: a Hub id, a folder in the same layout, or None for the embedded tiny-sd.

        Raises ValueError for a checkpoint that cannot be honoured (naming field or tensor), FileNotFoundError,
        ConnectionError and PermissionError where it cannot be had.
        """
        model = embedded(None) if model is None else embedded(str(model))
        root = resolve(
            model,
            revision=revision,
            variant=variant,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
        )
        _check_index(root)
        device = torch.device(device)
        unet_config = UNetConfig.from_dict(read_json(root / "unet" / "config.json"))
        vae_config = AutoencoderConfig.from_dict(read_json(root / "vae" / "config.json"))
        scheduler = read_json(root / "scheduler" / "scheduler_config.json")
        stem = "diffusion_pytorch_model"
        unet_files = find_weights(root / "unet", stem, variant)
        vae_files = find_weights(root / "vae", stem, variant)
        backbone = load_module(lambda: UNet(unet_config), unet_files, dtype=dtype, device=device)
        vae = load_module(
            lambda: Autoencoder(vae_config), vae_files, dtype=dtype, device=device, rename=Autoencoder.rename
        )
        text = ClipText.load(root, variant=variant, dtype=dtype, device=device)
        if text.encoder.config.hidden_size != unet_config.cross_attention_dim[0]:
            raise ValueError(
                f"{root}: the text encoder is {text.encoder.config.hidden_size} wide, the U-Net's cross_attention_dim "
                f"is {unet_config.cross_attention_dim[0]}"
            )
        for module in (backbone, vae):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(root.name, backbone, vae, text, scheduler, dtype, device)

    def solver(self, name: str | None = None, steps: int = 50, grid: str | Grid | None = None) -> Solver:
        """The solver `name` on this checkpoint's schedule; None takes what its scheduler config names.

        `grid` is a spacing by name, or a `Grid`, which then decides the number of steps.
        """
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        if isinstance(grid, Grid):
            named: Any = from_scheduler_config(self.scheduler_config, grid.n_steps, solver=name).solver
            return replace(named, grid=grid)
        return from_scheduler_config(self.scheduler_config, steps, solver=name, grid=grid).solver

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        negative_prompt: str | None = None,
        steps: int = 50,
        solver: str | Solver | None = None,
        grid: str | Grid | None = None,
        guidance: float = 7.5,
        height: int | None = None,
        width: int | None = None,
        seed: int | Sequence[int] = 0,
        noise: Tensor | None = None,
        accelerator: str | Accelerator | None = None,
        output: str = "pil",
        progress: bool | None = None,
    ) -> Output:
        """Sample one image per prompt.

        `seed` is one for all prompts or one each: the same prompt and seed give the same picture in any batch.
        `noise` (B, C, h, w), unit normal, overrides it. `guidance` <= 1 leaves the negative branch out. `progress`
        None shows a bar when stderr is a terminal. Raises ValueError before any work for arguments that do not fit.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        if not prompts:
            raise ValueError("no prompt: give a string, or a list with at least one")
        if output not in _OUTPUTS:
            raise ValueError(f"unknown output {output!r}; known: {', '.join(_OUTPUTS)}")
        if isinstance(accelerator, str):
            accelerator = make_accelerator(accelerator)
        chosen = self.solver(solver, steps, grid) if solver is None or isinstance(solver, str) else solver
        if noise is None:
            noise = initial_noise(self._latent_shape(height, width), _seeds(seed, len(prompts)))
        elif noise.dim() != 4 or noise.shape[:2] != (len(prompts), self.backbone.config.in_channels):
            expected = (len(prompts), self.backbone.config.in_channels, "h", "w")
            raise ValueError(f"noise has shape {tuple(noise.shape)}, expected {expected}")
        if accelerator is not None:
            accelerator.begin(chosen, noise.shape, seams=True)
        denoise = self.denoiser(chosen, prompts, negative_prompt, guidance)
        start = noise.to(self.device, torch.float32)
        with progress_observer(progress, chosen.n_evals) as observer:
            sampled = sample(chosen, denoise, start, accelerator, observer=observer)
        images: Any = None if output == "latent" else self.decode(sampled.x)
        return Output(to_pil(images) if output == "pil" else images, sampled.x, sampled.stats)

    def denoiser(
        self, solver: Solver, prompts: Sequence[str], negative_prompt: str | None = None, guidance: float = 7.5
    ) -> GuidedDenoiser:
        """The x0-answering callable for `prompts` at the evaluation points of `solver`."""
        guided = guidance > 1
        unique = list(dict.fromkeys([*prompts, negative_prompt or ""] if guided else prompts))
        states = dict(zip(unique, self.text.encode(unique), strict=True))
        context = torch.stack([states[prompt] for prompt in prompts])
        negative = states[negative_prompt or ""].expand_as(context) if guided else None
        return GuidedDenoiser(
            self.backbone, solver.nodes, self.prediction, context, negative, float(guidance), self.dtype
        )

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], float32, of latents (B, C, h, w) in the backbone's scaling."""
        config = self.vae.config
        unscaled = latents / config.scaling_factor + (config.shift_factor or 0.0)
        images = [self.vae.decode(one.to(self.dtype)) for one in unscaled.split(1)]
        return (torch.cat(images).float() / 2 + 0.5).clamp(0, 1)

    def _latent_shape(self, height: int | None, width: int | None) -> tuple[int, int, int]:
        factor = self.vae.config.downscale
        size = self.backbone.config.sample_size or 64
        default = (size, size) if isinstance(size, int) else size
        sides = []
        for label, pixels, latent in (("height", height, default[0]), ("width", width, default[1])):
            pixels = latent * factor if pixels is None else pixels
            if pixels < factor or pixels % factor:
                raise ValueError(f"{label}={pixels} is not a positive multiple of {factor}, the pixels per latent")
            sides.append(pixels // factor)
        return (self.backbone.config.in_channels, sides[0], sides[1])


def initial_noise(shape: tuple[int, int, int], seeds: Sequence[int]) -> Tensor:
    """Unit-normal noise (B, C, h, w), each sample drawn on the CPU from a generator of its own."""
    return torch.cat([torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def _seeds(seed: int | Sequence[int], samples: int) -> list[int]:
    seeds = [seed] * samples if isinstance(seed, int) else list(seed)
    if len(seeds) != samples:
        raise ValueError(f"{len(seeds)} seeds for {samples} prompts: give one seed, or one per prompt")
    return seeds


def embedded(name: str | None) -> str:
    """The folder of the embedded checkpoint `name` (None: tiny-sd), or `name` itself if it is none."""
    folder = EMBEDDED / (name or "tiny-sd")
    known = name is None or (name.replace("-", "").isalnum() and folder.is_dir())
    return str(folder) if known else str(name)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from `path`; FileNotFoundError or ValueError that names it."""
    if not path.is_file():
        raise FileNotFoundError(f"the checkpoint has no {path}")
    try:
        content = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a JSON object")
    return content


def _check_index(root: Path) -> None:
    index = read_json(root / "model_index.json")
    kind = index.get("_class_name")
    if kind != "StableDiffusionPipeline":
        raise ValueError(f"{root} holds a {kind}; supported: StableDiffusionPipeline")
    expected = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
    for component, name in expected.items():
        found = index.get(component)
        if not isinstance(found, list) or found[-1] != name:
            raise ValueError(f"{root}/model_index.json: {component} is {found!r}, supported: {name}")
