"""Single files of transformers whose configs the base has: the authors' names, as Diffusers' converters read them."""

import re
from pathlib import Path

import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_flux2_transformer_checkpoint_to_diffusers,
    convert_sd3_transformer_checkpoint_to_diffusers,
    convert_z_image_transformer_checkpoint_to_diffusers,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.pipeline.inspection import inspect
from support.checkpoints_chroma import chroma
from support.checkpoints_flux2 import flux2_klein
from support.checkpoints_sd3 import sd3
from support.checkpoints_z_image import z_image

CALL = {"prompt": "a red apple", "height": 24, "width": 16, "steps": 2, "seed": 1, "output": "latent"}
CONVERTERS = {
    "flux2": convert_flux2_transformer_checkpoint_to_diffusers,
    "sd3": convert_sd3_transformer_checkpoint_to_diffusers,
    "z_image": convert_z_image_transformer_checkpoint_to_diffusers,
}
FLUX2 = {  # the Hub's name of a module -> the authors'
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "time_guidance_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_guidance_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "proj_out": "final_layer.linear",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    r"(\w+_stream_modulation(?:_\w+)?)\.linear": r"\1.lin",
    r"single_transformer_blocks\.(\d+)\.attn\.to_qkv_mlp_proj": r"single_blocks.\1.linear1",
    r"single_transformer_blocks\.(\d+)\.attn\.to_out": r"single_blocks.\1.linear2",
    r"transformer_blocks\.(\d+)\.attn\.to_out\.0": r"double_blocks.\1.img_attn.proj",
    r"transformer_blocks\.(\d+)\.attn\.to_add_out": r"double_blocks.\1.txt_attn.proj",
    r"transformer_blocks\.(\d+)\.ff\.linear_in": r"double_blocks.\1.img_mlp.0",
    r"transformer_blocks\.(\d+)\.ff\.linear_out": r"double_blocks.\1.img_mlp.2",
    r"transformer_blocks\.(\d+)\.ff_context\.linear_in": r"double_blocks.\1.txt_mlp.0",
    r"transformer_blocks\.(\d+)\.ff_context\.linear_out": r"double_blocks.\1.txt_mlp.2",
    r"transformer_blocks\.(\d+)\.attn\.to_q": r"double_blocks.\1.img_attn.qkv",
    r"transformer_blocks\.(\d+)\.attn\.add_q_proj": r"double_blocks.\1.txt_attn.qkv",
}
NORMS = {
    r"single_transformer_blocks\.(\d+)\.attn\.norm_q": r"single_blocks.\1.norm.query_norm",
    r"single_transformer_blocks\.(\d+)\.attn\.norm_k": r"single_blocks.\1.norm.key_norm",
    r"transformer_blocks\.(\d+)\.attn\.norm_q": r"double_blocks.\1.img_attn.norm.query_norm",
    r"transformer_blocks\.(\d+)\.attn\.norm_k": r"double_blocks.\1.img_attn.norm.key_norm",
    r"transformer_blocks\.(\d+)\.attn\.norm_added_q": r"double_blocks.\1.txt_attn.norm.query_norm",
    r"transformer_blocks\.(\d+)\.attn\.norm_added_k": r"double_blocks.\1.txt_attn.norm.key_norm",
}


def _renamed(module: str, table: dict[str, str]) -> str | None:
    return next((re.sub(old, new, module) for old, new in table.items() if re.fullmatch(old, module)), None)


def flux2_authors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    made = {}
    for name, tensor in state.items():
        module = name.removesuffix(".weight")
        if (norm := _renamed(module, NORMS)) is not None:
            made[f"{norm}.scale"] = tensor
        elif (new := _renamed(module, FLUX2)) is not None:
            if new.endswith("qkv"):
                spellings = ("to_q", "to_k", "to_v") if "img" in new else ("add_q_proj", "add_k_proj", "add_v_proj")
                stem = module.rpartition(".")[0]
                tensor = torch.cat([state[f"{stem}.{part}.weight"] for part in spellings])
            made[f"{new}.weight"] = torch.cat(tensor.chunk(2)[::-1]) if "adaLN" in new else tensor
    return made


SD3 = {
    "pos_embed.pos_embed": "pos_embed",
    r"pos_embed\.proj\.(\w+)": r"x_embedder.proj.\1",
    r"time_text_embed\.timestep_embedder\.linear_1\.(\w+)": r"t_embedder.mlp.0.\1",
    r"time_text_embed\.timestep_embedder\.linear_2\.(\w+)": r"t_embedder.mlp.2.\1",
    r"time_text_embed\.text_embedder\.linear_1\.(\w+)": r"y_embedder.mlp.0.\1",
    r"time_text_embed\.text_embedder\.linear_2\.(\w+)": r"y_embedder.mlp.2.\1",
    r"(context_embedder\..*)": r"\1",
    r"proj_out\.(\w+)": r"final_layer.linear.\1",
    r"norm_out\.linear\.(\w+)": r"final_layer.adaLN_modulation.1.\1",
    r"transformer_blocks\.(\d+)\.(attn2?)\.norm_([qk])\.weight": r"joint_blocks.\1.x_block.\2.ln_\3.weight",
    r"transformer_blocks\.(\d+)\.attn\.norm_added_([qk])\.weight": r"joint_blocks.\1.context_block.attn.ln_\2.weight",
    r"transformer_blocks\.(\d+)\.(attn2?)\.to_out\.0\.(\w+)": r"joint_blocks.\1.x_block.\2.proj.\3",
    r"transformer_blocks\.(\d+)\.attn\.to_add_out\.(\w+)": r"joint_blocks.\1.context_block.attn.proj.\2",
    r"transformer_blocks\.(\d+)\.ff\.net\.0\.proj\.(\w+)": r"joint_blocks.\1.x_block.mlp.fc1.\2",
    r"transformer_blocks\.(\d+)\.ff\.net\.2\.(\w+)": r"joint_blocks.\1.x_block.mlp.fc2.\2",
    r"transformer_blocks\.(\d+)\.ff_context\.net\.0\.proj\.(\w+)": r"joint_blocks.\1.context_block.mlp.fc1.\2",
    r"transformer_blocks\.(\d+)\.ff_context\.net\.2\.(\w+)": r"joint_blocks.\1.context_block.mlp.fc2.\2",
    r"transformer_blocks\.(\d+)\.norm1\.linear\.(\w+)": r"joint_blocks.\1.x_block.adaLN_modulation.1.\2",
    r"transformer_blocks\.(\d+)\.norm1_context\.linear\.(\w+)": r"joint_blocks.\1.context_block.adaLN_modulation.1.\2",
    r"transformer_blocks\.(\d+)\.(attn2?)\.to_q\.(\w+)": r"joint_blocks.\1.x_block.\2.qkv.\3",
    r"transformer_blocks\.(\d+)\.attn\.add_q_proj\.(\w+)": r"joint_blocks.\1.context_block.attn.qkv.\2",
}


def sd3_authors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    made = {}
    for name, tensor in state.items():
        new = _renamed(name, SD3)
        if new is None:
            continue
        if ".qkv." in new:
            spellings = ("to_q", "to_k", "to_v") if "x_block" in new else ("add_q_proj", "add_k_proj", "add_v_proj")
            tensor = torch.cat([state[re.sub("to_q|add_q_proj", part, name)] for part in spellings])
        last = "adaLN" in new and (new.startswith("final") or "joint_blocks.2.context" in new)
        made[new] = torch.cat(tensor.chunk(2)[::-1]) if last else tensor
    return made


def z_image_authors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    made = {"norm_final.weight": torch.ones(4)}
    for name, tensor in state.items():
        for old, new in (
            ("all_x_embedder.2-1.", "x_embedder."),
            ("all_final_layer.2-1.", "final_layer."),
            ("attention.to_out.0.", "attention.out."),
            ("attention.norm_q", "attention.q_norm"),
            ("attention.norm_k", "attention.k_norm"),
        ):
            name = name.replace(old, new)
        if ".to_q." in name:
            parts = [state[name.replace(".to_q.", f".to_{part}.")] for part in "qkv"]
            made[name.replace(".to_q.", ".qkv.")] = torch.cat(parts)
        elif not re.search(r"\.to_[kv]\.", name):
            made[name] = tensor
    return made


MAKERS = {"flux2": flux2_klein, "sd3": lambda folder: sd3(folder, "3.5 medium"), "z_image": z_image}


@pytest.fixture(scope="module", params=CONVERTERS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param) / "base"
    return request.param, MAKERS[request.param](folder)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_files_in_the_authors_names_load_beside_a_base(made: tuple[str, Path], tmp_path: Path, prefix: str) -> None:
    name, base = made
    state = load_file(base / "transformer" / "diffusion_pytorch_model.safetensors")
    changed = {key: tensor + 0.01 * torch.randn_like(tensor) for key, tensor in state.items()}
    authors = {"flux2": flux2_authors, "sd3": sd3_authors, "z_image": z_image_authors}[name](changed)
    theirs = CONVERTERS[name](dict(authors))  # the file is one that Diffusers reads as these tensors
    assert theirs.keys() == changed.keys() and all(torch.equal(theirs[key], changed[key]) for key in changed)
    file = tmp_path / "file.safetensors"
    save_file({prefix + key: tensor.contiguous() for key, tensor in authors.items()}, file)
    pipe = Pipeline.from_single_file(file, base=base)
    ours = pipe.backbone.state_dict()
    assert ours.keys() == changed.keys() and all(torch.equal(ours[key], changed[key]) for key in changed)
    assert pipe(**CALL).latents.isfinite().all()
    found = inspect(str(file))
    assert found.refused is None and "base=CHECKPOINT" in found.use


def test_files_in_the_hubs_names_draw_what_the_base_draws(made: tuple[str, Path]) -> None:
    _, base = made
    pipe = Pipeline.from_single_file(base / "transformer" / "diffusion_pytorch_model.safetensors", base=base)
    assert torch.equal(pipe(**CALL).latents, Pipeline.from_pretrained(base)(**CALL).latents)


def test_the_autoencoder_of_a_file_is_used(tmp_path: Path) -> None:
    base = sd3(tmp_path / "base", "3 medium")
    state = load_file(base / "transformer" / "diffusion_pytorch_model.safetensors")
    vae = load_file(base / "vae" / "diffusion_pytorch_model.safetensors")
    vae["decoder.conv_out.bias"] += 1
    file = tmp_path / "file.safetensors"
    names = {f"model.diffusion_model.{name}": tensor.contiguous() for name, tensor in sd3_authors(state).items()}
    save_file({**names, **{f"first_stage_model.{name}": tensor for name, tensor in vae.items()}}, file)
    pipe = Pipeline.from_single_file(file, base=base)
    assert torch.equal(pipe.vae.decoder.conv_out.bias, vae["decoder.conv_out.bias"])
    assert pipe.vae.config.scaling_factor == 1.5305


def test_files_that_do_not_fit_their_base_are_refused(made: tuple[str, Path], tmp_path: Path) -> None:
    _, base = made
    file = base / "transformer" / "diffusion_pytorch_model.safetensors"
    with pytest.raises(ValueError, match="ChromaPipeline.*needs a base of the class"):
        Pipeline.from_single_file(file, base=chroma(tmp_path / "other"))
    with pytest.raises(ValueError, match="base=ID_OR_FOLDER"):
        Pipeline.from_single_file(file, tokenizer=base)
    state = load_file(file)
    state["layers.99.new.weight"] = torch.zeros(1)
    state.pop(next(name for name in state if name.endswith("norm_q.weight")))
    save_file(state, tmp_path / "damaged.safetensors")
    with pytest.raises(ValueError, match=r"1 missing .*norm_q.*1 unexpected \(layers.99"):
        Pipeline.from_single_file(tmp_path / "damaged.safetensors", base=base)
