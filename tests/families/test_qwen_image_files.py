"""Files for Qwen-Image: its transformer alone, also in fp8, and adapters in the published dialects."""

from pathlib import Path

import pytest
import torch
from diffusers import QwenImageTransformer2DModel
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_qwen_lora_to_diffusers
from safetensors.torch import load_file, save_file
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.pipeline.inspection import inspect
from support.checkpoints_qwen_image import qwen_image
from support.flux import relative

CALL = {"prompt": "a red apple", "height": 32, "width": 32, "steps": 2, "seed": 1, "guidance": 1, "output": "latent"}
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
LAYERS = ("attn.to_q", "attn.to_out.0", "attn.add_k_proj", "attn.to_add_out", "img_mlp.net.0.proj", "txt_mod.1")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen_image(tmp_path_factory.mktemp("qwen_image") / "base")


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_transformer_alone_loads_beside_a_base(base: Path, tmp_path: Path, prefix: str) -> None:
    state = {name: tensor + 0.01 for name, tensor in load_file(base / WEIGHTS).items()}
    file = tmp_path / "qwen_image_bf16.safetensors"
    save_file({prefix + name: tensor for name, tensor in state.items()}, file)
    pipe = Pipeline.from_single_file(file, base=base)
    ours = pipe.backbone.state_dict()
    assert ours.keys() == state.keys() and all(torch.equal(ours[name], state[name]) for name in state)
    assert pipe(**CALL).latents.isfinite().all()
    found = inspect(str(file))
    assert found.refused is None and "base=CHECKPOINT" in found.use


def test_plain_fp8_weights_are_read_as_their_values(base: Path, tmp_path: Path) -> None:
    state = load_file(base / WEIGHTS)
    matrices = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in state.items() if tensor.dim() == 2}
    file = tmp_path / "qwen_image_fp8_e4m3fn.safetensors"
    save_file({**state, **matrices}, file)
    ours = Pipeline.from_single_file(file, base=base).backbone.state_dict()
    assert all(torch.equal(ours[name], matrix.float()) for name, matrix in matrices.items())


def adapter(state: dict[str, Tensor], rank: int = 2) -> dict[str, tuple[Tensor, Tensor]]:
    """Both factors for some layers of each block, by layer."""
    torch.manual_seed(3)
    names = [f"transformer_blocks.{index}.{layer}" for index in range(3) for layer in LAYERS]
    shapes = {name: state[f"{name}.weight"].shape for name in names}
    return {name: (torch.randn(rank, size[1]) / 8, torch.randn(size[0], rank) / 8) for name, size in shapes.items()}


def spelled(factors: dict[str, tuple[Tensor, Tensor]], dialect: str) -> dict[str, Tensor]:
    """A file in a published dialect: of lightx2v's Lightning, of ComfyUI, of kohya's tools, and of PEFT."""
    made = {}
    for name, (down, up) in factors.items():
        if dialect == "kohya":
            name = "lora_unet_" + name.replace(".", "_")
        layer = {"comfy": f"diffusion_model.{name}", "peft": f"transformer.{name}"}.get(dialect, name)
        names = ("lora_A.default", "lora_B.default") if dialect == "default" else ("lora_A", "lora_B")
        first, second = ("lora_down", "lora_up") if dialect in ("lightning", "kohya") else names
        made |= {f"{layer}.{first}.weight": down, f"{layer}.{second}.weight": up}
        if dialect in ("lightning", "kohya", "comfy"):
            made[f"{layer}.alpha"] = torch.tensor(4.0)
    return made


@pytest.mark.parametrize("dialect", ["lightning", "comfy", "kohya", "peft", "default"])
def test_an_adapter_changes_what_diffusers_says_it_changes(base: Path, tmp_path: Path, dialect: str) -> None:
    state = load_file(base / WEIGHTS)
    made = spelled(adapter(state), dialect)
    file = tmp_path / "Qwen-Image-Lightning-8steps.safetensors"
    save_file(made, file)
    known = {name.removeprefix("transformer."): tensor for name, tensor in made.items()}
    theirs = _convert_non_diffusers_qwen_lora_to_diffusers(known)
    pipe = Pipeline.from_pretrained(base)
    plain = pipe(**CALL).latents
    pipe.load_lora(file)
    ours = pipe.backbone.state_dict()
    for name in (name.removesuffix(".lora_A.weight") for name in theirs if "lora_A" in name):
        change = theirs[f"{name}.lora_B.weight"] @ theirs[f"{name}.lora_A.weight"]
        own = name.removeprefix("transformer.") + ".weight"
        torch.testing.assert_close(ours[own], state[own] + change, rtol=0, atol=1e-5)
    reference = QwenImageTransformer2DModel.from_pretrained(base / "transformer")
    assert sum(not torch.equal(ours[name], tensor) for name, tensor in reference.state_dict().items()) == 18
    assert relative(pipe(**CALL).latents, plain) > 1e-3
