"""Single files of transformers whose configs the base has: the authors' names, as Diffusers' converters read them."""

import re
from pathlib import Path

import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_flux2_transformer_checkpoint_to_diffusers,
    convert_z_image_transformer_checkpoint_to_diffusers,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.pipeline.inspection import inspect
from support.checkpoints_flux2 import flux2_klein
from support.checkpoints_sd3 import sd3
from support.checkpoints_z_image import z_image

CALL = {"prompt": "a red apple", "height": 24, "width": 16, "steps": 2, "seed": 1, "output": "latent"}
CONVERTERS = {
    "flux2": convert_flux2_transformer_checkpoint_to_diffusers,
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


@pytest.fixture(scope="module", params=CONVERTERS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param) / "base"
    return request.param, {"flux2": flux2_klein, "z_image": z_image}[request.param](folder)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_files_in_the_authors_names_load_beside_a_base(made: tuple[str, Path], tmp_path: Path, prefix: str) -> None:
    name, base = made
    state = load_file(base / "transformer" / "diffusion_pytorch_model.safetensors")
    changed = {key: tensor + 0.01 * torch.randn_like(tensor) for key, tensor in state.items()}
    authors = {"flux2": flux2_authors, "z_image": z_image_authors}[name](changed)
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


def test_files_that_do_not_fit_their_base_are_refused(made: tuple[str, Path], tmp_path: Path) -> None:
    _, base = made
    file = base / "transformer" / "diffusion_pytorch_model.safetensors"
    with pytest.raises(ValueError, match="StableDiffusion3Pipeline.*needs a base of the class"):
        Pipeline.from_single_file(file, base=sd3(tmp_path / "other", "3 medium"))
    with pytest.raises(ValueError, match="base=ID_OR_FOLDER"):
        Pipeline.from_single_file(file, tokenizer=base)
    state = load_file(file)
    state["layers.99.new.weight"] = torch.zeros(1)
    state.pop(next(name for name in state if name.endswith("norm_q.weight")))
    save_file(state, tmp_path / "damaged.safetensors")
    with pytest.raises(ValueError, match=r"1 missing .*norm_q.*1 unexpected \(layers.99"):
        Pipeline.from_single_file(tmp_path / "damaged.safetensors", base=base)
