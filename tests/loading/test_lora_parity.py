"""LoRA files of SD, SDXL and Flux.1 in each dialect, loaded at a scale by us and by Diffusers: the same latents.

Diffusers' pipelines do not read PEFT's own naming of a U-Net (base_model.model.): its reference is PEFT itself.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from peft import LoraConfig, PeftModel
from peft.helpers import rescale_adapter_scale
from safetensors.torch import save_file
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.loading.single_file.unet import original_module
from sadaflow.models import UNetConfig
from sadaflow.pipeline.inputs import initial_noise
from support.checkpoints_flux import flux
from support.checkpoints_original import original
from support.flux import packed
from support.lora import compare as compare_weights
from support.lora import snapshot

PROMPTS = ["a red fox!", "the sea"]
RANK, ALPHA, SCALE = 3, 2.0, 0.7
CALL = {"num_inference_steps": 2, "height": 40, "width": 24, "output_type": "latent"}
_ADAPTED = re.compile(
    r".*(to_[qkv]|to_out\.0|ff\.net\.\d\.?(proj)?|proj_in|proj_out|resnets\.\d\.conv[12]|conv_shortcut|samplers\.0\.conv"
    r"|[qkv]_proj|out_proj|fc[12]|add_[qkv]_proj|to_add_out|ff_context\.net\.2|proj_mlp|norm1?\.linear)"
)
Spell = Callable[[str, str], tuple[str, str, str | None]]


def _dotted(component: str, layer: str) -> tuple[str, str, str | None]:
    return f"{component}.{layer}.lora_A.weight", f"{component}.{layer}.lora_B.weight", None


def _older(component: str, layer: str) -> tuple[str, str, str | None]:
    mark = "lora_linear_layer" if component.startswith("text") else "lora"
    return f"{component}.{layer}.{mark}.down.weight", f"{component}.{layer}.{mark}.up.weight", None


def _kohya(component: str, layer: str, te: str = "te") -> tuple[str, str, str | None]:
    place = {"text_encoder": te, "text_encoder_2": "te2"}.get(component, "unet")
    base = f"lora_{place}_{layer.replace('.', '_')}"
    return f"{base}.lora_down.weight", f"{base}.lora_up.weight", f"{base}.alpha"


def _kohya_xl(component: str, layer: str) -> tuple[str, str, str | None]:
    return _kohya(component, layer, "te1")


def adapter(modules: dict[str, torch.nn.Module], spell: Spell) -> dict[str, Tensor]:
    """Random factors for the layers of `modules` that are commonly adapted, large enough to change the pictures."""
    tensors: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(0)
    for component, module in modules.items():
        for name, layer in module.named_modules():
            if not isinstance(layer, torch.nn.Linear | torch.nn.Conv2d) or not _ADAPTED.fullmatch(name):
                continue
            if component.startswith("text_encoder") and not name.startswith("text_"):
                name = f"text_model.{name}"  # as published files spell it, whatever the installed transformers does
            weight = layer.weight
            down = torch.randn((RANK, *weight.shape[1:]), generator=generator) / weight[0].numel() ** 0.5
            up = torch.randn((len(weight), RANK, *[1] * (weight.dim() - 2)), generator=generator) / RANK**0.5
            down_key, up_key, alpha_key = spell(component, name)
            tensors |= {down_key: down, up_key: up}
            if alpha_key is not None:
                tensors[alpha_key] = torch.tensor(ALPHA)
    return tensors


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def fused_weights(reference: Any, components: list[str]) -> dict[str, Tensor]:
    """The weights of Diffusers' networks by component and name, without PEFT's own."""
    found = {}
    for component in components:
        for name, weight in getattr(reference, component).state_dict().items():
            if ".lora_" not in name:
                found[f"{component}.{name.replace('.base_layer', '')}"] = weight.clone()
    return found


def compare(ours: Pipeline, reference: Any, path: Path, call: dict[str, Any], asked: dict[str, Any]) -> None:
    """Latents with the LoRA in `path` agree, and are others than without it."""

    def latents() -> Tensor:
        made = ours(PROMPTS, steps=2, output="latent", **asked).latents
        return packed(made) if made.shape[1] == 16 else made

    plain = latents()
    lora = ours.load_lora(path, SCALE)
    reference.load_lora_weights(path.parent, weight_name=path.name, adapter_name="tested")
    reference.set_adapters(["tested"], [SCALE])
    theirs = reference(PROMPTS, **CALL, **call).images
    mine = latents()
    components = [name for name in ours.family.adaptable if getattr(getattr(reference, name), "peft_config", None)]
    reference.fuse_lora(components, adapter_names=["tested"])
    changed, fused = snapshot(ours), fused_weights(reference, components)
    ours.unload_lora(lora)
    before = snapshot(ours)
    # What an earlier test has merged into the reference, it has taken out again but for rounding.
    expected = {name: x for name, x in fused.items() if not torch.allclose(x, before[name], rtol=1e-5, atol=1e-5)}
    assert len(expected) > 10
    compare_weights({name: x for name, x in changed.items() if not torch.equal(x, before[name])}, expected)
    reference.unfuse_lora(components)
    reference.unload_lora_weights()
    assert relative(mine, theirs) < 1e-4
    assert relative(mine, plain) > 1e-2


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipeline, Any]:
    folder = original(tmp_path_factory.mktemp("sd15"), "sd15")[0]
    return Pipeline.from_pretrained(folder), StableDiffusionPipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipeline, Any]:
    folder = original(tmp_path_factory.mktemp("sdxl"), "sdxl")[0]
    return Pipeline.from_pretrained(folder), StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipeline, Any]:
    folder = flux(tmp_path_factory.mktemp("flux") / "dev", "dev", num_layers=1, num_single_layers=1)
    return Pipeline.from_pretrained(folder), FluxPipeline.from_pretrained(folder)


NOISE = initial_noise((4, 20, 12), [3, 4])
GUIDED: tuple[dict[str, Any], dict[str, Any]] = (
    {"guidance_scale": 5.0, "negative_prompt": ["blurry"] * 2, "latents": NOISE},
    {"guidance": 5.0, "negative_prompt": "blurry", "noise": NOISE},
)


@pytest.mark.parametrize("spell", [_dotted, _older, _kohya])
def test_stable_diffusion(spell: Spell, sd: tuple[Pipeline, Any], tmp_path: Path) -> None:
    ours, reference = sd
    tensors = adapter({"unet": reference.unet, "text_encoder": reference.text_encoder}, spell)
    save_file(tensors, tmp_path / "lora.safetensors")
    compare(ours, reference, tmp_path / "lora.safetensors", *GUIDED)


@pytest.mark.parametrize("spell", [_dotted, _kohya_xl])
def test_stable_diffusion_xl(spell: Spell, xl: tuple[Pipeline, Any], tmp_path: Path) -> None:
    ours, reference = xl
    modules = {name: getattr(reference, name) for name in ("unet", "text_encoder", "text_encoder_2")}
    save_file(adapter(modules, spell), tmp_path / "lora.safetensors")
    compare(ours, reference, tmp_path / "lora.safetensors", *GUIDED)


def test_stable_diffusion_xl_under_the_names_of_its_authors(xl: tuple[Pipeline, Any], tmp_path: Path) -> None:
    """kohya's usual spelling of SDXL."""
    ours, reference = xl
    config: UNetConfig = ours.backbone.config

    def spell(component: str, layer: str) -> tuple[str, str, str | None]:
        return _kohya_xl(component, original_module(layer, config) if component == "unet" else layer)

    modules = {name: getattr(reference, name) for name in ("unet", "text_encoder", "text_encoder_2")}
    save_file(adapter(modules, spell), tmp_path / "lora.safetensors")
    compare(ours, reference, tmp_path / "lora.safetensors", *GUIDED)


def test_peft(sd: tuple[Pipeline, Any], tmp_path: Path) -> None:
    ours, reference = sd
    tensors = adapter({"unet": reference.unet}, lambda _, layer: _dotted("base_model.model", layer))
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    layers = sorted({key.removeprefix("base_model.model.").split(".lora_")[0] for key in tensors})
    LoraConfig(r=RANK, lora_alpha=7, target_modules=layers).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["lora_alpha"] == 7
    torch.manual_seed(0)
    x, context = torch.randn(2, 4, 20, 12), torch.randn(2, 7, 64)
    with torch.no_grad():
        plain = reference.unet(x, 321, context).sample
        adapted = PeftModel.from_pretrained(reference.unet, tmp_path)
        with rescale_adapter_scale(adapted, SCALE):
            theirs = adapted(x, 321, context).sample
        adapted.unload()
        lora = ours.load_lora(tmp_path, SCALE)
        mine = ours.backbone(x, 321.0, context)
        ours.unload_lora(lora)
    assert relative(mine, theirs) < 1e-4  # merged weights and a separate product round differently
    assert relative(mine, plain) > 1e-2


FLUX_NOISE = initial_noise((16, 20, 12), [3, 4])
DISTILLED: tuple[dict[str, Any], dict[str, Any]] = (
    {"guidance_scale": 3.5, "max_sequence_length": 48, "latents": packed(FLUX_NOISE)},
    {"guidance": 3.5, "max_sequence_length": 48, "noise": FLUX_NOISE},
)


def test_flux(dev: tuple[Pipeline, Any], tmp_path: Path) -> None:
    ours, reference = dev
    modules = {"transformer": reference.transformer, "text_encoder": reference.text_encoder}
    save_file(adapter(modules, _dotted), tmp_path / "lora.safetensors")
    compare(ours, reference, tmp_path / "lora.safetensors", *DISTILLED)


def test_flux_under_the_names_of_its_authors(dev: tuple[Pipeline, Any], tmp_path: Path) -> None:
    """kohya's spelling; Diffusers splits the single blocks' fused projection at the published widths alone."""
    ours, reference = dev
    width = reference.transformer.inner_dim
    shapes = {"img_attn_qkv": (3, 1), "txt_attn_qkv": (3, 1), "img_attn_proj": (1, 1), "txt_attn_proj": (1, 1)}
    shapes |= {"img_mlp_0": (4, 1), "img_mlp_2": (1, 4), "txt_mlp_0": (4, 1), "txt_mlp_2": (1, 4)}
    shapes |= {"img_mod_lin": (6, 1), "txt_mod_lin": (6, 1)}
    layers = {f"double_blocks_0_{name}": shape for name, shape in shapes.items()}
    layers |= {"single_blocks_0_linear2": (1, 5), "single_blocks_0_modulation_lin": (3, 1)}
    generator = torch.Generator().manual_seed(0)
    tensors = adapter({"text_encoder": reference.text_encoder}, _kohya_xl)
    for name, (rows, columns) in layers.items():
        down, up, alpha = (f"lora_unet_{name}.{part}" for part in ("lora_down.weight", "lora_up.weight", "alpha"))
        tensors[down] = torch.randn((RANK, columns * width), generator=generator) / (columns * width) ** 0.5
        tensors[up] = torch.randn((rows * width, RANK), generator=generator) / RANK**0.5
        tensors[alpha] = torch.tensor(ALPHA)
    save_file(tensors, tmp_path / "lora.safetensors")
    compare(ours, reference, tmp_path / "lora.safetensors", *DISTILLED)
