"""The families of transformers with weights streamed, in eight bits and in bfloat16; adapters in Diffusers' dialect."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sadaflow import Pipeline
from sadaflow.pipeline.output import Output
from support.checkpoints_chroma import chroma
from support.checkpoints_flux2 import flux2_klein
from support.checkpoints_sd3 import sd3
from support.checkpoints_z_image import z_image
from support.flux import relative

MAKERS: dict[str, tuple[Callable[[Path], object], str]] = {  # and a layer that adapters change
    "chroma": (chroma, "single_transformer_blocks.0.attn.to_q"),
    "flux2": (flux2_klein, "single_transformer_blocks.0.attn.to_qkv_mlp_proj"),
    "sd3": (lambda folder: sd3(folder, "3.5 medium"), "transformer_blocks.0.attn.to_q"),
    "z_image": (z_image, "layers.0.attention.to_q"),
}
PROMPTS = ["a red apple", "grinning face on wood!"]
CALL = {"seed": [1, 2], "height": 24, "width": 16, "guidance": 2.0, "output": "latent", "steps": 2}


@pytest.fixture(scope="module", params=MAKERS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Output]:
    """The folder, its adapted layer, and what the pipeline draws."""
    folder = tmp_path_factory.mktemp(request.param) / "made"
    write, layer = MAKERS[request.param]
    write(folder)
    return folder, layer, Pipeline.from_pretrained(folder)(PROMPTS, **CALL)


def test_streamed_weights_draw_the_same(made: tuple[Path, str, Output]) -> None:
    folder, _, plain = made
    streamed = Pipeline.from_pretrained(folder, offload="stream")
    assert torch.equal(streamed(PROMPTS, **CALL).latents, plain.latents)


def test_eight_bits_and_bfloat16_stay_close(made: tuple[Path, str, Output]) -> None:
    folder, layer, plain = made
    eight = Pipeline.from_pretrained(folder, quantize="int8")
    weight = eight.backbone.get_submodule(layer).weight
    assert type(weight.data) is not torch.Tensor and "int8" in str(weight).lower()
    assert 0 < relative(eight(PROMPTS, **CALL).latents, plain.latents) < 0.1
    half = Pipeline.from_pretrained(folder, dtype=torch.bfloat16)
    assert 0 < relative(half(PROMPTS, **CALL).latents, plain.latents) < 0.1


def test_a_lora_of_diffusers_is_merged_and_taken_out(made: tuple[Path, str, Output], tmp_path: Path) -> None:
    folder, layer, plain = made
    pipe = Pipeline.from_pretrained(folder)
    weight = pipe.backbone.get_submodule(layer).weight
    before = weight.clone()
    torch.manual_seed(0)
    down, up = torch.randn(2, weight.shape[1]), torch.randn(weight.shape[0], 2)
    names = {f"transformer.{layer}.lora_A.weight": down, f"transformer.{layer}.lora_B.weight": up}
    save_file(names, tmp_path / "lora.safetensors")
    lora = pipe.load_lora(tmp_path / "lora.safetensors", 0.5)
    assert torch.allclose(weight, before + 0.5 * up @ down, atol=1e-5)
    assert relative(pipe(PROMPTS, **CALL).latents, plain.latents) > 1e-4
    pipe.unload_lora(lora)
    assert torch.equal(weight, before)
