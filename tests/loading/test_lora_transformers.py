"""LoRA files of SD3, Chroma, FLUX.2 and Z-Image in each dialect: merged weights are those of Diffusers and PEFT."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ChromaTransformer2DModel, Flux2Transformer2DModel, SD3Transformer2DModel
from diffusers.loaders.lora_pipeline import Flux2LoraLoaderMixin, FluxLoraLoaderMixin, ZImageLoraLoaderMixin
from safetensors.torch import save_file
from torch import Tensor, nn

from sadaflow.loading.lora.merge import LoraStack
from sadaflow.loading.lora.names import list_targets
from sadaflow.loading.lora.read import read_lora
from sadaflow.models.chroma import ChromaConfig, ChromaTransformer
from sadaflow.models.flux2 import Flux2Config, Flux2Transformer
from sadaflow.models.sd3 import SD3Config, SD3Transformer
from sadaflow.models.z_image import ZImageConfig, ZImageTransformer
from support import checkpoints_chroma, checkpoints_flux2, checkpoints_sd3
from support.checkpoints_flux2 import plain
from support.checkpoints_z_image import z_image_transformer
from support.lora import compare

RANK, ALPHA, SCALE = 3, 2.0, 0.7
Pair = tuple[Any, nn.Module]


def _pair(theirs: Any, build: Callable[[Any], nn.Module], config: Any) -> Pair:
    ours = build(config.from_dict({**dict(theirs.config), "_class_name": type(theirs).__name__})).eval()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.fixture(scope="module")
def pairs() -> dict[str, Pair]:
    """Diffusers' network and ours of each family, with equal random weights."""
    torch.manual_seed(0)
    sd3 = {**checkpoints_sd3.PUBLISHED["3.5 medium"], **checkpoints_sd3.SMALL, "dual_attention_layers": [0]}
    chroma = {**checkpoints_chroma.PUBLISHED, **checkpoints_chroma.SMALL}
    chroma.pop("approximator_in_factor")
    flux2 = {**checkpoints_flux2.PUBLISHED, **checkpoints_flux2.SMALL}
    return {
        "sd3": _pair(SD3Transformer2DModel(**plain(sd3)), SD3Transformer, SD3Config),
        "chroma": _pair(ChromaTransformer2DModel(**plain(chroma)), ChromaTransformer, ChromaConfig),
        "flux2": _pair(Flux2Transformer2DModel(**plain(flux2)), Flux2Transformer, Flux2Config),
        "z_image": _pair(z_image_transformer(), ZImageTransformer, ZImageConfig),
    }


# What published files adapt: the authors' name of a module, and the Hub's names of the parts that it fuses.
QKV, ADDED = ("attn.to_q", "attn.to_k", "attn.to_v"), ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")
MODULES: dict[str, dict[str, tuple[str, ...]]] = {
    "sd3": {
        "joint_blocks.0.x_block.attn.qkv": tuple(f"transformer_blocks.0.{part}" for part in QKV),
        "joint_blocks.0.x_block.attn2.qkv": tuple(f"transformer_blocks.0.attn2.to_{part}" for part in "qkv"),
        "joint_blocks.1.context_block.attn.qkv": tuple(f"transformer_blocks.1.{part}" for part in ADDED),
        "joint_blocks.0.x_block.attn.proj": ("transformer_blocks.0.attn.to_out.0",),
        "joint_blocks.0.context_block.attn.proj": ("transformer_blocks.0.attn.to_add_out",),
        "joint_blocks.0.x_block.mlp.fc1": ("transformer_blocks.0.ff.net.0.proj",),
        "joint_blocks.1.context_block.mlp.fc2": ("transformer_blocks.1.ff_context.net.2",),
        "joint_blocks.0.x_block.adaLN_modulation.1": ("transformer_blocks.0.norm1.linear",),
        "context_embedder": ("context_embedder",),
    },
    "chroma": {
        "double_blocks.0.img_attn.qkv": tuple(f"transformer_blocks.0.{part}" for part in QKV),
        "double_blocks.0.txt_attn.qkv": tuple(f"transformer_blocks.0.{part}" for part in ADDED),
        "double_blocks.0.img_attn.proj": ("transformer_blocks.0.attn.to_out.0",),
        "double_blocks.0.txt_attn.proj": ("transformer_blocks.0.attn.to_add_out",),
        "double_blocks.0.img_mlp.0": ("transformer_blocks.0.ff.net.0.proj",),
        "double_blocks.0.txt_mlp.2": ("transformer_blocks.0.ff_context.net.2",),
        "single_blocks.1.linear2": ("single_transformer_blocks.1.proj_out",),
    },
    "flux2": {
        "double_blocks.0.img_attn.qkv": tuple(f"transformer_blocks.0.{part}" for part in QKV),
        "double_blocks.0.txt_attn.qkv": tuple(f"transformer_blocks.0.{part}" for part in ADDED),
        "double_blocks.0.img_attn.proj": ("transformer_blocks.0.attn.to_out.0",),
        "double_blocks.0.txt_attn.proj": ("transformer_blocks.0.attn.to_add_out",),
        "double_blocks.0.img_mlp.0": ("transformer_blocks.0.ff.linear_in",),
        "double_blocks.0.txt_mlp.2": ("transformer_blocks.0.ff_context.linear_out",),
        "single_blocks.1.linear1": ("single_transformer_blocks.1.attn.to_qkv_mlp_proj",),
        "single_blocks.1.linear2": ("single_transformer_blocks.1.attn.to_out",),
        "img_in": ("x_embedder",),
        "time_in.in_layer": ("time_guidance_embed.timestep_embedder.linear_1",),
    },
    "z_image": {
        "layers.0.attention.qkv": tuple(f"layers.0.attention.to_{part}" for part in "qkv"),
        "context_refiner.0.attention.qkv": tuple(f"context_refiner.0.attention.to_{part}" for part in "qkv"),
        "layers.2.attention.out": ("layers.2.attention.to_out.0",),
        "noise_refiner.0.feed_forward.w1": ("noise_refiner.0.feed_forward.w1",),
        "layers.1.feed_forward.w2": ("layers.1.feed_forward.w2",),
        "layers.1.adaLN_modulation.0": ("layers.1.adaLN_modulation.0",),
    },
}
READERS = {"chroma": FluxLoraLoaderMixin, "flux2": Flux2LoraLoaderMixin, "z_image": ZImageLoraLoaderMixin}


def factors(network: nn.Module, family: str) -> Iterator[tuple[str, tuple[str, ...], Tensor, Tensor]]:
    """The authors' name of each module, the Hub's, and factors of a change of the fused weight."""
    generator = torch.Generator().manual_seed(0)
    for module, parts in MODULES[family].items():
        shapes = [network.get_submodule(part).weight.shape for part in parts]
        down = torch.randn(RANK, shapes[0][1], generator=generator) / shapes[0][1] ** 0.5
        yield module, parts, down, torch.randn(sum(shape[0] for shape in shapes), RANK, generator=generator)


def by_hand(network: nn.Module, family: str, weight: float) -> dict[str, Tensor]:
    """The factors under the Hub's names, in Diffusers' dialect, `weight` times the change."""
    made = {}
    for _, parts, down, up in factors(network, family):
        for part, rows in zip(parts, up.chunk(len(parts)), strict=True):
            made |= {f"transformer.{part}.lora_A.weight": down, f"transformer.{part}.lora_B.weight": weight * rows}
    return made


def kohya(network: nn.Module, family: str) -> dict[str, Tensor]:
    """sd-scripts and musubi-tuner: the authors' names, joined by underscores."""
    made = {}
    for module, _, down, up in factors(network, family):
        name = f"lora_unet_{module.replace('.', '_')}"
        made |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(ALPHA)}
    return made


def dotted(prefix: str, network: nn.Module, family: str) -> dict[str, Tensor]:
    """ai-toolkit and ComfyUI under "diffusion_model."; PEFT under "base_model.model."."""
    made = {}
    for module, _, down, up in factors(network, family):
        made |= {f"{prefix}{module}.lora_A.weight": down, f"{prefix}{module}.lora_B.weight": up}
    return made


def fused(theirs: Any, converted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights that an adapter changes in Diffusers' network, merged by PEFT."""
    adapted, before = deepcopy(theirs), theirs.state_dict()
    adapted.load_lora_adapter(converted, prefix="transformer", adapter_name="tested")
    adapted.set_adapters(["tested"], [SCALE])
    adapted.fuse_lora()
    state = {
        name.replace(".base_layer", ""): tensor for name, tensor in adapted.state_dict().items() if "lora_" not in name
    }
    return {f"transformer.{name}": x for name, x in state.items() if not torch.equal(x, before[name])}


def merged(ours: nn.Module, path: Path) -> dict[str, Tensor]:
    """The weights that an adapter changes in our network; afterwards it is taken out, which must give the same bits."""
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    stack = LoraStack({"transformer": ours})
    lora = read_lora(path, list_targets({"transformer": ours}), SCALE)
    stack.add(lora)
    changed = {f"transformer.{name}": x.clone() for name, x in ours.state_dict().items() if not x.equal(before[name])}
    stack.remove(lora)
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())
    return changed


@pytest.mark.parametrize("family", MODULES)
@pytest.mark.parametrize("dialect", ["diffusers", "kohya", "comfy"])
def test_merged_weights_are_those_of_diffusers(
    family: str, dialect: str, pairs: dict[str, Pair], tmp_path: Path
) -> None:
    theirs, ours = pairs[family]
    weight = ALPHA / RANK if dialect == "kohya" else 1.0
    hub = by_hand(theirs, family, weight)
    tensors = {"diffusers": hub, "kohya": kohya(theirs, family), "comfy": dotted("diffusion_model.", theirs, family)}
    save_file({name: x.clone() for name, x in tensors[dialect].items()}, tmp_path / "lora.safetensors")
    expected = fused(theirs, hub)
    assert len(expected) == sum(len(parts) for parts in MODULES[family].values())
    compare(merged(ours, tmp_path / "lora.safetensors"), expected)
    # Diffusers converts kohya's dialect for all but SD3, and fused projections in ComfyUI's for FLUX.2.
    if dialect == "kohya" and family != "sd3" or (dialect, family) == ("comfy", "flux2"):
        compare(fused(theirs, READERS[family].lora_state_dict(dict(tensors[dialect]))), expected)


def test_peft_and_the_fused_projection_of_chromas_single_blocks(pairs: dict[str, Pair], tmp_path: Path) -> None:
    theirs, ours = pairs["chroma"]
    parts = [f"single_transformer_blocks.0.{name}" for name in (*QKV, "proj_mlp")]
    rows = [theirs.get_submodule(part).weight.shape[0] for part in parts]
    torch.manual_seed(1)
    down, up = torch.randn(RANK, 32), torch.randn(sum(rows), RANK)
    name = "base_model.model.single_blocks.0.linear1"
    save_file({f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}, tmp_path / "lora.safetensors")
    hub = {}
    for part, piece in zip(parts, up.split(rows), strict=True):
        hub |= {f"transformer.{part}.lora_A.weight": down, f"transformer.{part}.lora_B.weight": piece}
    with pytest.warns(UserWarning, match=r"no adapter_config.json"):
        compare(merged(ours, tmp_path / "lora.safetensors"), fused(theirs, hub))


def test_lokr_of_a_fused_projection_of_flux2(pairs: dict[str, Pair], tmp_path: Path) -> None:
    """A Kronecker product of q, k and v together, as ai-toolkit trains it: W + w1 x w2 on the stacked rows."""
    theirs, ours = pairs["flux2"]
    torch.manual_seed(2)
    w1, w2 = torch.randn(6, 4), torch.randn(16, 8)
    name = "diffusion_model.double_blocks.0.img_attn.qkv"
    save_file({f"{name}.lokr_w1": w1, f"{name}.lokr_w2": w2}, tmp_path / "lokr.safetensors")
    names = [f"transformer_blocks.0.{part}.weight" for part in QKV]
    before = theirs.state_dict()
    change = SCALE * torch.kron(w1, w2)
    expected = {f"transformer.{name}": before[name] + rows for name, rows in zip(names, change.chunk(3), strict=True)}
    compare(merged(ours, tmp_path / "lokr.safetensors"), expected)


def test_shift_and_scale_of_the_last_modulation_are_exchanged(pairs: dict[str, Pair], tmp_path: Path) -> None:
    for family, module in (("flux2", "final_layer"), ("sd3", "final_layer"), ("sd3", "joint_blocks.2.context_block")):
        theirs, ours = pairs[family]
        hub = "norm_out.linear" if module == "final_layer" else "transformer_blocks.2.norm1_context.linear"
        down, up = torch.randn(RANK, 32), torch.randn(64, RANK)
        name = f"diffusion_model.{module}.adaLN_modulation.1"
        save_file({f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}, tmp_path / "lora.safetensors")
        weight = theirs.state_dict()[f"{hub}.weight"]
        shift, scale = (SCALE * up @ down).chunk(2)
        expected = {f"transformer.{hub}.weight": weight + torch.cat((scale, shift))}
        compare(merged(ours, tmp_path / "lora.safetensors"), expected)
