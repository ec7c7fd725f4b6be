"""Differences to Diffusers of small checkpoints in every layout that loads; `tabulate_layouts.py` writes the page.

For each layout a small checkpoint with random weights is written as a file in it. Three steps are sampled from the file
here, and in Diffusers from the same file where its `from_single_file` reads it, or else from the folder of the same
weights in the Hub's layout. The difference of the latents is a part of the largest number in them; that of autoencoders
is one of decoded pictures.
"""

import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors.torch import load_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from sadaflow import Pipeline
from sadaflow.loading.layouts.row import Layout
from sadaflow.loading.layouts.table import layout_of
from sadaflow.loading.single_file import autoencoder, controlnet
from sadaflow.models import ControlNetConfig
from support.checkpoints import controlnet as write_controlnet
from support.checkpoints_flux import flux
from support.checkpoints_original import NETWORK, hub_text_names, original
from support.flux import original_names, to_original
from support.single_files import Tensors, only, renamed, scaled, stripped, unscaled, write

PROMPT, SIDE = "a red fox!", 32
WEIGHTS = "diffusion_pytorch_model.safetensors"
CLIP, OPEN, XL = "cond_stage_model.transformer.", "cond_stage_model.model.", "conditioner.embedders."
ONE_HEAD = {"attention_head_dim": 128, "num_attention_heads": 1, "axes_dims_rope": (16, 56, 56)}
Case = tuple[Path, Path, dict[str, Any]]
"""A file, the folder of the same weights, and what the file needs beside it."""


def reference(folder: Path, file: Path | None, **parts: Any) -> Any:
    """Diffusers' pipeline of the file, or where it does not read the file of the folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = diffusers.DiffusionPipeline.from_pretrained(folder, **parts)
        if file is not None:
            try:
                pipe = type(pipe).from_single_file(str(file), config=str(folder), local_files_only=True)
            except Exception as error:  # whatever it says, it does not read the file
                print(f"    Diffusers: {type(error).__name__}: {str(error)[:100]}", file=sys.stderr)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def start_noise(channels: int) -> Tensor:
    return torch.randn(1, channels, SIDE // 2, SIDE // 2, generator=torch.Generator().manual_seed(1))


def latents(pipe: Pipeline, noise: Tensor, **call: Any) -> Tensor:
    more = {"max_sequence_length": 16} if "Flux" in type(pipe.family).__name__ else {}
    size = {"height": SIDE, "width": SIDE}
    return pipe(PROMPT, steps=3, noise=noise, output="latent", progress=False, **size, **more, **call).latents


def their_latents(pipe: Any, noise: Tensor, guidance: float, **call: Any) -> Tensor:
    how: dict[str, Any] = {"num_inference_steps": 3, "output_type": "latent", "guidance_scale": guidance}
    size = {"height": SIDE, "width": SIDE}
    name = type(pipe).__name__
    if name == "FluxPipeline":
        packed = pipe._pack_latents(noise, *noise.shape)
        found = pipe(PROMPT, latents=packed, max_sequence_length=16, **size, **how).images
        return pipe._unpack_latents(found, SIDE, SIDE, pipe.vae_scale_factor)
    if name == "StableDiffusionXLImg2ImgPipeline":
        pipe.scheduler.set_timesteps(3)
        start = {"image": torch.zeros_like(noise), "latents": noise * pipe.scheduler.init_noise_sigma, "strength": 1.0}
        sizes = {"original_size": (SIDE, SIDE), "target_size": (SIDE, SIDE)}
        return pipe(PROMPT, **start, **sizes, **how, **call).images
    return pipe(PROMPT, latents=noise, **size, **how, **call).images


def compare(case: Case, *, single: bool) -> float:
    """The difference of the latents of a checkpoint or network."""
    file, folder, beside = case
    pipe = Pipeline.from_single_file(file, **beside)
    noise = start_noise(pipe.family.latent_channels)
    theirs = reference(folder, file if single else None)
    expected = their_latents(theirs, noise, pipe.default_guidance)
    return difference(latents(pipe, noise), expected)


class Bench:
    """Small checkpoints in both layouts, and files in all others."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made = {style: original(root / style, style) for style in ("sd15", "sd21", "sdxl", "refiner")}
        self.flux = flux(root / "flux", "dev", num_layers=1, num_single_layers=1, **ONE_HEAD)

    def file(self, name: str, style: str, change: Callable[[Tensors], Tensors], **beside: Any) -> Case:
        folder, file = self.made[style]
        path = write(self.root / f"{name}.safetensors", change(load_file(file)))
        more = {"prediction": "v_prediction"} if style == "sd21" and "base" not in beside else {}
        return path, folder, beside or {"tokenizer": folder, **more}

    def cases(self) -> Iterator[Case]:
        """A file in each layout of a checkpoint or network."""
        for style, (folder, file) in self.made.items():
            prediction = {"prediction": "v_prediction"} if style == "sd21" else {}
            yield file, folder, {"tokenizer": folder, **prediction}
            yield self.file(f"{style}-prefixed", style, only(NETWORK), base=folder)
            yield self.file(f"{style}-bare", style, stripped(NETWORK), base=folder)
            yield folder / "unet" / WEIGHTS, folder, {"base": folder}
        comfy = ("first_stage_model.", "vae."), (CLIP, "text_encoders.clip_l.transformer.")
        yield self.file("no-text-model", "sd15", renamed((f"{CLIP}text_model.", CLIP)))
        yield self.file("sgm1", "sd15", renamed((CLIP, f"{XL}0.transformer.")))
        yield self.file("sgm2", "sd21", renamed((OPEN, f"{XL}0.model.")))
        yield self.file("all1", "sd15", renamed(*comfy))
        comfy_h = self.hub_text("sd21", OPEN, "text_encoders.clip_h.transformer.", "text_encoder")
        yield self.file("all2", "sd21", comfy_h)
        first = renamed((f"{XL}0.transformer.", "text_encoders.clip_l.transformer."))
        second = self.hub_text("sdxl", f"{XL}1.model.", "text_encoders.clip_g.transformer.", "text_encoder_2")
        yield self.file("allxl", "sdxl", lambda tensors: first(second(tensors)))
        yield from self.flux_cases()

    def hub_text(self, style: str, old: str, new: str, component: str) -> Callable[[Tensors], Tensors]:
        """Puts a text encoder under the Hub's names, after `new`, in place of the tensors after `old`."""
        state = load_file(self.made[style][0] / component / "model.safetensors")
        top = {name: tensor for name, tensor in state.items() if name.startswith("text_projection.")}
        rest = hub_text_names({name: tensor for name, tensor in state.items() if name not in top})
        own = {new + name: tensor for name, tensor in {**rest, **top}.items()}
        return lambda tensors: {**{n: x for n, x in tensors.items() if not n.startswith(old)}, **own}

    def flux_cases(self) -> Iterator[Case]:
        state = load_file(self.flux / "transformer" / WEIGHTS)
        authors = to_original(state, original_names(1, 1))
        yield self.flux / "transformer" / WEIGHTS, self.flux, {"base": self.flux}
        yield write(self.root / "bfl.safetensors", authors), self.flux, {"base": self.flux}
        prefixed = {NETWORK + name: tensor for name, tensor in authors.items()}
        yield write(self.root / "bfl-prefixed.safetensors", prefixed), self.flux, {"base": self.flux}
        # CLIP stays in `base`: this small one has heads of another width than those that a file stands for.
        t5 = load_file(self.flux / "text_encoder_2" / "model.safetensors")
        texts = {f"text_encoders.t5xxl.transformer.{name}": x for name, x in t5.items()}
        whole = write(self.root / "bfl-all.safetensors", {**prefixed, **texts})
        yield whole, self.flux, {"base": self.flux}

    def fp8(self) -> float:
        """The difference of scaled fp8 weights to Diffusers with the weights that they stand for."""
        folder, file = self.made["sd15"]
        tensors = scaled(load_file(file))
        path = write(self.root / "fp8.safetensors", tensors)
        plain = write(self.root / "fp8-plain.safetensors", unscaled(tensors))
        theirs = reference(folder, plain)
        pipe = Pipeline.from_single_file(path, tokenizer=folder)
        noise = start_noise(4)
        return difference(latents(pipe, noise), their_latents(theirs, noise, pipe.default_guidance))

    def autoencoders(self) -> Iterator[tuple[Layout, float]]:
        folder, _ = self.made["sdxl"]
        hub, theirs = load_file(folder / "vae" / WEIGHTS), reference(folder, None).vae
        ours: Any = Pipeline.from_pretrained(folder).vae
        names = {hub_name: name for name, hub_name in autoencoder.key_map(ours).items()}
        z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected = theirs.decode(z).sample
        for prefix in ("", "first_stage_model.", "vae."):
            for spelled in (hub, {names[name]: tensor for name, tensor in hub.items()}):
                tensors = {prefix + name: tensor for name, tensor in spelled.items()}
                path = write(self.root / "vae.safetensors", tensors)
                layout = layout_of({name: tuple(tensor.shape) for name, tensor in tensors.items()})
                assert layout is not None
                with torch.no_grad():
                    yield layout, difference(Pipeline.from_pretrained(folder, vae=path).vae.decode(z), expected)

    def controlnets(self) -> Iterator[tuple[Layout, float]]:
        folder, _ = self.made["sd15"]
        net = write_controlnet(self.root / "net", folder)
        model = diffusers.ControlNetModel.from_pretrained(net)
        kind = diffusers.StableDiffusionControlNetPipeline
        pipe = kind.from_pretrained(folder, controlnet=model, safety_checker=None)
        pipe.set_progress_bar_config(disable=True)
        image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
        noise = start_noise(4)
        expected = their_latents(pipe, noise, 7.5, image=image)
        ours: Any = Pipeline.from_pretrained(folder, controlnet=net).backbone
        config = ControlNetConfig.from_dict(dict(model.config))
        names = {hub_name: name for name, hub_name in controlnet.key_map(ours.nets[0], config).items()}
        hub = load_file(net / WEIGHTS)
        authors = {names[name]: tensor for name, tensor in hub.items()}
        for tensors in (hub, authors, {f"control_model.{name}": tensor for name, tensor in authors.items()}):
            path = write(self.root / "net.safetensors", tensors)
            layout = layout_of({name: tuple(tensor.shape) for name, tensor in tensors.items()})
            assert layout is not None
            found = latents(Pipeline.from_pretrained(folder, controlnet=path), noise, control=image, guidance=7.5)
            yield layout, difference(found, expected)


def measure() -> tuple[dict[tuple[str, str], float], float]:
    """The largest difference of each row, by name and prefix; and that of scaled fp8 weights."""
    worst: dict[tuple[str, str], float] = {}

    def note(layout: Layout, found: float) -> None:
        key = (layout.name, layout.prefix)
        worst[key] = max(worst.get(key, 0.0), found)
        print(f"{found:.1e} {layout.name} {layout.prefix}", file=sys.stderr)

    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for case in bench.cases():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                layout = layout_of({name: tuple(tensor.shape) for name, tensor in load_file(case[0]).items()})
                assert layout is not None
                note(layout, compare(case, single=layout.kind == "pipeline" and layout.family != "flux"))
        for layout, found in (*bench.autoencoders(), *bench.controlnets()):
            note(layout, found)
        return worst, bench.fp8()
