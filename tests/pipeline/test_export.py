"""`sadaflow export` writes a pipeline as a folder that Diffusers samples alike, and that loads here to the bit."""

import json
import warnings
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from sadaflow import Pipeline
from sadaflow.cli import main
from sadaflow.models import AutoencoderConfig, FluxConfig, UNetConfig
from support.checkpoints import controlnet, stable_diffusion, stable_diffusion_xl
from support.checkpoints_flux import flux
from support.checkpoints_original import NETWORK, original
from support.single_files import variant

PROMPTS = ["a red fox!", "the sea"]


def lora(path: Path, component: str, weight: torch.Tensor, layer: str) -> Path:
    torch.manual_seed(9)
    up, down = torch.randn(weight.shape[0], 2) / 4, torch.randn(2, weight.shape[1]) / 4
    save_file({f"{component}.{layer}.lora_A.weight": down, f"{component}.{layer}.lora_B.weight": up}, path)
    return path


def same_latents(folder: Path, pipe: Pipeline, size: int = 32) -> None:
    """The exported folder gives the latents of the pipeline: here to the bit, and in Diffusers to 1e-5."""
    call: dict[str, Any] = {"steps": 3, "height": size, "width": size, "output": "latent", "progress": False}
    if "Flux" in type(pipe.family).__name__:
        call["max_sequence_length"] = 16
    torch.manual_seed(1)
    noise = torch.randn(2, pipe.family.latent_channels, size // 2, size // 2)
    ours = pipe(PROMPTS, noise=noise, **call).latents
    again = Pipeline.from_pretrained(folder)(PROMPTS, noise=noise, **call).latents
    assert torch.equal(ours, again)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs: Any = diffusers.DiffusionPipeline.from_pretrained(folder, safety_checker=None)
    theirs.set_progress_bar_config(disable=True)
    given = noise
    options: dict[str, Any] = {"num_inference_steps": 3, "height": size, "width": size, "output_type": "latent"}
    if isinstance(theirs, diffusers.FluxPipeline):
        given = theirs._pack_latents(noise, *noise.shape)
        options["max_sequence_length"] = 16
    guidance = {"guidance_scale": pipe.default_guidance}
    expected = theirs(PROMPTS, latents=given, **guidance, **options).images
    if isinstance(theirs, diffusers.FluxPipeline):
        expected = theirs._unpack_latents(expected, size, size, 2)
    assert (ours - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("style", ["sd15", "sd21", "sdxl", "dev"])
def test_a_folder_with_a_merged_lora(style: str, tmp_path: Path) -> None:
    made = {"sdxl": stable_diffusion_xl, "dev": lambda path: flux(path, "dev")}
    source = made[style](tmp_path / "in") if style in made else stable_diffusion(tmp_path / "in", style)
    pipe = Pipeline.from_pretrained(source)
    component = "transformer" if style == "dev" else "unet"
    block = "transformer_blocks.0.attn" if style == "dev" else "mid_block.attentions.0.transformer_blocks.0.attn1"
    layer = f"{block}.to_q"
    weight = pipe.backbone.get_parameter(f"{layer}.weight")
    before = weight.clone()
    pipe.load_lora(lora(tmp_path / "lora.safetensors", component, weight, layer))
    folder = pipe.export(tmp_path / "out")
    stored = load_file(folder / component / "diffusion_pytorch_model.safetensors")[f"{layer}.weight"]
    assert not torch.equal(stored, before)
    same_latents(folder, pipe)


@pytest.mark.parametrize("style", ["sd15", "sd21", "sdxl"])
def test_a_single_file_by_the_command(style: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub, file = original(tmp_path / "in", style)
    flags = ["--tokenizer", str(hub), *(["--prediction", "v_prediction"] if style == "sd21" else [])]
    out = tmp_path / "new" / "out"
    assert main(["export", str(file), str(out), *flags]) == 0
    assert str(out) in capsys.readouterr().out
    for part in ("unet", "vae"):
        ours, theirs = (load_file(root / part / "diffusion_pytorch_model.safetensors") for root in (out, hub))
        assert set(ours) == set(theirs) and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    diffusers.DiffusionPipeline.from_pretrained(out)
    assert str(tmp_path) not in "".join(path.read_text() for path in out.rglob("*.json"))
    assert main(["export", str(file), str(out), *flags]) == 2  # the folder exists


def test_what_a_folder_cannot_hold_is_refused(tmp_path: Path) -> None:
    base = stable_diffusion(tmp_path / "in", "sd15")
    for how in ({"quantize": "int8"}, {"offload": "stream"}):
        with pytest.raises(ValueError, match="without quantize=, offload="):
            Pipeline.from_pretrained(base, **how).export(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    net = controlnet(tmp_path / "net", base)
    folder = Pipeline.from_pretrained(base, controlnet=net).export(tmp_path / "out")  # without the ControlNet
    assert json.loads((folder / "model_index.json").read_text())["_class_name"] == "StableDiffusionPipeline"
    assert not (folder / "controlnet").exists()


def test_an_inpainting_file_becomes_the_folder_of_its_pipeline(tmp_path: Path) -> None:
    hub, file = original(tmp_path / "in", "sd15")
    name = f"{NETWORK}input_blocks.0.0.weight"
    path = variant(file, tmp_path / "wide.safetensors", lambda x: {**x, name: x[name].repeat(1, 3, 1, 1)[:, :9]})
    pipe = Pipeline.from_single_file(path, tokenizer=hub)
    folder = pipe.export(tmp_path / "out")
    call = {"image": torch.rand(3, 32, 32), "mask": torch.ones(1, 32, 32), "steps": 2, "output": "latent"}
    assert torch.equal(Pipeline.from_pretrained(folder)("a", **call).latents, pipe("a", **call).latents)
    theirs = diffusers.StableDiffusionInpaintPipeline.from_pretrained(folder, safety_checker=None)
    assert theirs.unet.config.in_channels == 9


UNET = {"cross_attention_dim": 768, "sample_size": 64}
ADDED = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 64}
CLASS = {"class_embed_type": "simple_projection", "projection_class_embeddings_input_dim": 512}


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig.from_dict(UNET),
        UNetConfig.from_dict({**UNET, "time_cond_proj_dim": 256, "freq_shift": 0.5, "layers_per_block": [1, 2, 2, 2]}),
        UNetConfig.from_dict({**UNET, **ADDED, "transformer_layers_per_block": [1, 2, 3, 4]}),
        UNetConfig.from_dict({**UNET, **CLASS, "class_embeddings_concat": True, "mid_block_type": "UNetMidBlock2D"}),
        AutoencoderConfig.from_dict({"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4, "sample_size": [8, 16]}),
        FluxConfig.from_dict({"out_channels": 16, "guidance_embeds": True}),
    ],
)
def test_configs_are_read_back_as_they_were(config: Any) -> None:
    written = json.loads(json.dumps(config.to_dict()))
    assert type(config).from_dict(written) == config
