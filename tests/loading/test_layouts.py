"""The table of layouts: what published files are recognised as, what is refused and why, what is only described."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sadaflow import Pipeline
from sadaflow.loading.layouts.row import Layout, describe_unknown, identify
from sadaflow.loading.layouts.table import LAYOUTS, layout_of

U, V, XL = "model.diffusion_model.", "first_stage_model.", "conditioner.embedders."
UNET = [f"{U}input_blocks.0.0.weight", f"{U}output_blocks.11.0.skip_connection.weight", f"{U}out.2.weight"]
ADDED = f"{U}label_emb.0.0.weight"
VAE = [f"{V}encoder.down.0.block.0.conv1.weight", f"{V}decoder.up.0.upsample.conv.bias"]
BLOCK = "transformer.resblocks.9.mlp.c_proj.bias"
FLUX = ["img_in.weight", "double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight"]
HINT = ["input_hint_block.0.weight", "zero_convs.0.0.weight", "input_blocks.0.0.weight", "middle_block_out.0.bias"]

# Key lists of published files, a few names of each component.
RECOGNISED: dict[str, tuple[list[str], str]] = {
    "v1-5-pruned-emaonly": (
        [*UNET, *VAE, "cond_stage_model.transformer.text_model.final_layer_norm.bias", "betas"],
        "Stable Diffusion 1.x, authors' names",
    ),
    "anything-v3": (
        [*UNET, *VAE, "cond_stage_model.transformer.embeddings.token_embedding.weight"],
        "Stable Diffusion 1.x, CLIP without text_model.",
    ),
    "v2-1_768-ema-pruned": (
        [*UNET, *VAE, f"cond_stage_model.model.{BLOCK}"],
        "Stable Diffusion 2.x, authors' names",
    ),
    "SD 2 in sgm names": ([*UNET, *VAE, f"{XL}0.model.{BLOCK}"], "Stable Diffusion 2.x, sgm names"),
    "sd_xl_base_1.0": (
        [*UNET, ADDED, *VAE, f"{XL}0.transformer.text_model.x", f"{XL}1.model.{BLOCK}", "denoiser.sigmas"],
        "Stable Diffusion XL, authors' names",
    ),
    "XL with a stray tensor": (
        [*UNET, ADDED, f"{XL}0.transformer.text_model.x", f"{XL}1.model.{BLOCK}",
         f"{XL}0.model.transformer.text_model.embeddings.position_ids"],
        "Stable Diffusion XL, authors' names",
    ),
    "sd_xl_refiner_1.0": ([*UNET, ADDED, *VAE, f"{XL}0.model.{BLOCK}"], "Stable Diffusion XL refiner, authors' names"),
    "flux1-dev": (FLUX, "transformer of Flux.1, authors' names"),
    "flux1-dev-fp8 all in one": (
        [*(U + name for name in FLUX), "text_encoders.t5xxl.transformer.shared.weight", "vae.encoder.down.0.x"],
        "Flux.1, all in one",
    ),
    "sd3_medium_incl_clips": (
        [f"{U}joint_blocks.0.context_block.adaLN_modulation.1.bias", "text_encoders.clip_l.transformer.x"],
        "transformer of Stable Diffusion 3, authors' names",
    ),
    "chroma-unlocked-v37": (
        [*FLUX, "distilled_guidance_layer.in_proj.weight"], "transformer of Chroma, authors' names",
    ),
    "Chroma all in one": (
        [*(U + name for name in FLUX), f"{U}distilled_guidance_layer.in_proj.weight", "text_encoders.t5xxl.x"],
        "transformer of Chroma, authors' names",
    ),
    "FLUX.1-dev transformer": (
        ["transformer_blocks.0.attn.add_q_proj.weight", "single_transformer_blocks.0.proj_mlp.weight",
         "context_embedder.weight"],
        "transformer of Flux.1, the Hub's names",
    ),
    "U-Net of a user interface": ([name.removeprefix(U) for name in UNET], "U-Net of Stable Diffusion, authors' names"),
    "vae-ft-mse-840000-ema-pruned": (
        ["encoder.down.0.block.0.conv1.weight", "decoder.up.0.x", "decoder.conv_in.weight", "loss.logvar"],
        "autoencoder, authors' names",
    ),
    "sdxl_vae": (
        ["encoder.down_blocks.0.x", "decoder.up_blocks.0.x", "decoder.conv_in.weight"], "autoencoder, the Hub's names",
    ),
    "qwen_image_vae": (
        ["conv1.weight", "decoder.head.0.gamma", "encoder.downsamples.0.residual.2.weight"],
        "autoencoder of Wan 2.1 and Qwen-Image, authors' names",
    ),
    "Wan2.1-T2V-1.3B-Diffusers vae": (
        ["quant_conv.weight", "decoder.norm_out.gamma", "encoder.down_blocks.0.conv1.weight",
         "decoder.up_blocks.0.resnets.0.conv1.weight", "decoder.conv_in.weight"],
        "autoencoder of Wan 2.1 and Qwen-Image, the Hub's names",
    ),
    "wan2.2_vae": (
        ["conv1.weight", "decoder.head.0.gamma", "encoder.downsamples.0.downsamples.0.residual.0.gamma"],
        "autoencoder of Wan 2.2 TI2V, authors' names",
    ),
    "Wan2.2-TI2V-5B-Diffusers vae": (
        ["quant_conv.weight", "decoder.norm_out.gamma", "encoder.down_blocks.0.downsampler.resample.1.weight",
         "decoder.up_blocks.0.resnets.0.conv1.weight", "decoder.conv_in.weight"],
        "autoencoder of Wan 2.2 TI2V, the Hub's names",
    ),
    "taesd": (
        ["encoder.layers.0.weight", "decoder.layers.0.weight", "decoder.layers.2.conv.0.weight"],
        "tiny autoencoder (TAESD), the Hub's names",
    ),
    "taesd_decoder": (["1.weight", "3.conv.0.weight", "19.bias"], "tiny autoencoder (TAESD), authors' names"),
    "control_v11p_sd15_canny": ([f"control_model.{name}" for name in HINT], "ControlNet, authors' names"),
    "controlnet-sd21-canny": (HINT, "ControlNet, authors' names without prefix"),
    "xinsir/controlnet-tile-sdxl-1.0": (
        ["controlnet_cond_embedding.conv_in.weight", "controlnet_down_blocks.0.bias", "controlnet_mid_block.bias",
         "down_blocks.0.resnets.0.x", "add_embedding.linear_1.bias"],
        "ControlNet, the Hub's names",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RECOGNISED)
def test_published_files_are_recognised(name: str) -> None:
    names, row = RECOGNISED[name]
    found = layout_of(dict.fromkeys(names, (1,)))
    assert found is not None and (found.name, found.refused) == (row, None)


# What is not loaded: names of published files, and words of the reason.
REFUSED: dict[str, tuple[list[str], str]] = {
    "flux1-dev-bnb-nf4": (
        [*(U + name for name in FLUX), f"{U}single_blocks.0.linear1.weight.quant_state.bitsandbytes__nf4"],
        "nf4 or fp4 weights of bitsandbytes",
    ),
    "bitsandbytes int8": ([*FLUX, "single_blocks.0.linear1.SCB"], "int8 weights of bitsandbytes"),
    "mixed precision": ([*FLUX, "single_blocks.0.linear1.comfy_quant"], "comfy_quant"),
    "svdq-int4-flux.1-dev": (["transformer_blocks.0.x.qweight", "transformer_blocks.0.x.wscales"], "SVDQuant"),
    "awq": (["model.layers.0.qweight", "model.layers.0.qzeros"], "GPTQ and AWQ weights are not read"),
    "wan-vace": (["vace_blocks.0.after_proj.weight", "vace_patch_embedding.weight"], "Wan VACE is not supported"),
    "svd": ([*UNET, f"{U}input_blocks.1.0.time_stack.x"], "Stable Video Diffusion is not supported"),
    "x4-upscaler-ema": ([*UNET, f"{U}label_emb.weight"], "x4 upscaler is not supported"),
    "clip_l": (["text_model.encoder.layers.0.mlp.fc1.weight"], "it is a text encoder alone"),
    "t5xxl_fp16": (["encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight"], "it is a text encoder alone"),
    "lora": (["lora_unet_x.lora_down.weight"], "load it by pipe.load_lora"),
    "control-lora-canny": ([*HINT, "lora_controlnet"], "differences to a U-Net's weights"),
    "controllllite": (["lllite_unet_x.down.0.weight"], "ControlNet-LLLite"),
    "controlnet-union-sdxl": (
        ["controlnet_cond_embedding.conv_in.weight", "task_embedding", "control_type_proj.weight"], "num_control_type",
    ),
    "FLUX.1-dev-Controlnet-Union": (["controlnet_blocks.0.weight", "controlnet_mode_embedder.weight"], "num_mode"),
    "flux-canny-controlnet-v3": (
        ["input_hint_block.0.weight", "controlnet_blocks.0.weight", "double_blocks.0.x"], "ControlNets of Flux.1",
    ),
    "t2iadapter_canny": (["body.0.block1.weight", "conv_in.weight"], "T2I-Adapters are not supported"),
    "ip-adapter": (["image_proj.norm.weight", "ip_adapter.1.to_k_ip.weight"], "IP-Adapters"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_known_files_that_are_not_loaded_are_refused_by_their_name(name: str, tmp_path: Path) -> None:
    names, words = REFUSED[name]
    path = tmp_path / f"{name.replace('/', '-')}.safetensors"
    save_file({each: torch.zeros(1) for each in names}, path)
    for argument in ({}, {"tokenizer": tmp_path}):  # before anything that the file lacks
        with pytest.raises(ValueError, match=words.replace(".", r"\.")) as caught:
            Pipeline.from_single_file(path, **argument)
        assert str(path) in str(caught.value) and "another model" not in str(caught.value)


CONTENTS: dict[str, tuple[bytes, str]] = {
    "pointer.safetensors": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer.*lfs pull"),
    "page.safetensors": (b"\n<!DOCTYPE html><html>Not Found</html>", "HTML page"),
    "page.sft": (b"<html><body>", "HTML page"),
    "flux.gguf": (b"GGUF\x03\x00\x00\x00", "GGUF"),
    "renamed.safetensors": (b"GGUF\x03\x00\x00\x00", "GGUF"),
    "model.ckpt": (b"PK\x03\x04", "is a pickle, which can run code"),
    "pickle.safetensors": (b"\x80\x02}q\x00.", "pickle under a safetensors name"),
    "model.pt": (b"\x80\x02}q\x00.", "is a pickle"),
    "model.bin": (b"PK\x03\x04", "is a pickle"),
    "cut.safetensors": (b"\xff\x00", "truncated"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_files_of_other_formats_are_refused_by_their_format(name: str, tmp_path: Path) -> None:
    content, words = CONTENTS[name]
    path = tmp_path / name
    path.write_bytes(content)
    for load in (
        lambda: Pipeline.from_single_file(path),
        lambda: Pipeline.from_pretrained("tiny-sd", vae=path),
        lambda: Pipeline.from_pretrained("tiny-sd", controlnet=path),
    ):
        with pytest.raises(ValueError, match=words):
            load()


@pytest.mark.parametrize("name", ["owner/name/file.gguf", "owner/name/model.ckpt", "owner/name/model.bin"])
def test_names_of_other_formats_on_the_hub_are_refused_before_a_download(name: str) -> None:
    with pytest.raises(ValueError, match="GGUF|pickle"):
        Pipeline.from_single_file(name, tokenizer="tiny-sd")


def test_every_row_is_reached_by_the_names_that_it_asks_for() -> None:
    """No row stands behind one that takes all its files."""
    for row in LAYOUTS:
        shapes = {pattern.replace("*", "0"): (1, row.shape[2] if row.shape else 1) for pattern in row.signs}
        found = identify(shapes, LAYOUTS)
        assert found is not None and (found.name, found.prefix) == (row.name, row.prefix), row.name


def test_rows_say_where_they_come_from_and_what_to_do() -> None:
    for row in LAYOUTS:
        assert row.source and (row.use if row.refused is None else row.refused), row.name
        assert not any(pattern in row.lacks for pattern in row.has)


def test_the_page_has_all_rows() -> None:
    text = (Path(__file__).parents[2] / "docs" / "layouts.md").read_text("utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| layout")]
    remedy = "run `python docs/scripts/tabulate_layouts.py --keep`"
    assert len(lines) == len(LAYOUTS), remedy
    for row in LAYOUTS:
        start = f"| {row.name} | {', '.join(f'`{pattern}`' for pattern in row.signs)} | {row.source} |"
        assert any(line.startswith(start) and (row.refused or row.use.split(",")[0]) in line for line in lines), remedy


def test_an_unknown_file_is_described_and_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    tensors = {f"{U}input_blocks.{i}.0.weight": torch.zeros(1) for i in range(3)}
    save_file({**tensors, "other.x": torch.zeros(1)}, path)
    with pytest.raises(ValueError) as caught:
        Pipeline.from_single_file(path, tokenizer="tiny-sd")
    message = str(caught.value)
    assert f"{path} is not of a known layout: it holds 4 tensors" in message
    assert "model.diffusion_model.* (3), other.x" in message
    assert f"U-Net of Stable Diffusion, authors' names (lacks {U}output_blocks.*)" in message


def test_descriptions_name_what_keeps_a_file_from_a_row() -> None:
    row = Layout("row", "network", ("a.*", "b"), "here", lacks=("c",))
    assert describe_unknown({}, [row]) == "it holds no tensors"
    assert "row (has c beside it)" in describe_unknown({"a.x": (1,), "b": (1,), "c": (1,)}, [row])
    assert "nearest layouts: none" in describe_unknown({"d": (1,)}, [row])
    sized = Layout("sized", "network", ("a",), "here", shape=("a", 1, 9))
    assert identify({"a": (2, 9)}, [sized]) is sized and identify({"a": (2, 8)}, [sized]) is None
    assert identify({"a": (2,)}, [sized]) is None
