"""Autoencoders and ControlNets in single files, beside checkpoints of either layout."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from safetensors.torch import load_file

from sadaflow import Pipeline
from sadaflow.loading.single_file import controlnet as controlnet_file
from sadaflow.loading.single_file.layout import SingleFile
from sadaflow.loading.strict import Loader
from sadaflow.models import UNetConfig
from support.checkpoints import controlnet
from support.checkpoints_original import UNETS, VAE, controlnet_to_original, original, vae_to_original
from support.single_files import renamed, stripped, variant, write

CALL: dict[str, Any] = {"steps": 2, "height": 32, "width": 16, "output": "tensor", "progress": False}


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return original(tmp_path_factory.mktemp("sd15"), "sd15")


@pytest.fixture(scope="module")
def vae(sd: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another autoencoder in the Hub's layout, of the shape of the checkpoint's."""
    torch.manual_seed(23)
    config = json.loads((sd[0] / "vae" / "config.json").read_text())
    folder = tmp_path_factory.mktemp("vae")
    AutoencoderKL.from_config({**config, "scaling_factor": 0.3}).save_pretrained(folder)
    return folder


def test_autoencoder_from_a_file_in_any_layout_or_a_folder(sd: tuple[Path, Path], vae: Path, tmp_path: Path) -> None:
    folder, file = sd
    state = AutoencoderKL.from_pretrained(vae).state_dict()
    theirs = vae_to_original(AutoencoderKL.from_pretrained(vae))
    hub = vae / "diffusion_pytorch_model.safetensors"
    files = [
        write(tmp_path / "bare.safetensors", stripped(VAE)(theirs)),
        write(tmp_path / "prefixed.safetensors", theirs),
        write(tmp_path / "short prefix.safetensors", renamed((VAE, "vae."))(theirs)),
        hub,
        variant(hub, tmp_path / "hub prefixed.safetensors", renamed(("", "first_stage_model."))),
    ]
    for path in files:
        pipe = Pipeline.from_pretrained(folder, vae=path)
        assert all(torch.equal(tensor, state[name]) for name, tensor in pipe.vae.state_dict().items()), path
        assert pipe.vae.config.scaling_factor == 0.18215  # that of the checkpoint: a file has none
    single = Pipeline.from_single_file(file, tokenizer=folder, vae=files[0])
    whole = Pipeline.from_pretrained(folder, vae=vae)
    assert whole.vae.config.scaling_factor == 0.3  # that of the folder
    assert torch.equal(single.vae.state_dict()["decoder.conv_in.weight"], state["decoder.conv_in.weight"])
    assert torch.equal(Pipeline.from_pretrained(folder, vae=folder)("a", **CALL).images,
                       Pipeline.from_pretrained(folder)("a", **CALL).images)  # fmt: skip


def test_autoencoders_that_do_not_fit_are_refused(sd: tuple[Path, Path], vae: Path, tmp_path: Path) -> None:
    folder, file = sd
    with pytest.raises(ValueError, match="holds: Stable Diffusion 1.x.* not an autoencoder.*from_single_file"):
        Pipeline.from_pretrained(folder, vae=file)
    with pytest.raises(ValueError, match="holds: autoencoder.* load it by vae=FILE"):
        Pipeline.from_single_file(vae / "diffusion_pytorch_model.safetensors", tokenizer=folder)
    config = json.loads((vae / "config.json").read_text())
    AutoencoderKL.from_config({**config, "latent_channels": 16}).save_pretrained(tmp_path / "wide")
    with pytest.raises(ValueError, match="latents have 16 channels, the checkpoint's 4"):
        Pipeline.from_pretrained(folder, vae=tmp_path / "wide")
    with pytest.raises(ValueError, match="vae=AutoencoderKL is not a name"):
        Pipeline.from_pretrained(folder, vae=AutoencoderKL.from_pretrained(vae))
    with pytest.raises(FileNotFoundError, match="config.json"):
        Pipeline.from_pretrained(folder, vae=tmp_path)


@pytest.mark.parametrize(("style", "prefix"), [("sd15", "control_model."), ("sd21", ""), ("sdxl", "")])
def test_controlnet_in_the_authors_names_is_that_of_the_reference(style: str, prefix: str, tmp_path: Path) -> None:
    unet = UNet2DConditionModel(**UNETS[style])
    torch.manual_seed(5)
    theirs = ControlNetModel.from_unet(unet)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter)
    path = write(tmp_path / "file.safetensors", controlnet_to_original(theirs, style, prefix))
    loader = Loader(torch.float32, torch.device("cpu"))
    steered = UNetConfig.from_dict(dict(unet.config))
    ours = controlnet_file.load(SingleFile(path).section(prefix), steered, loader)
    loader.fill()
    state = theirs.state_dict()
    assert set(state) == set(ours.state_dict())
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.state_dict().items())
    assert (ours.config.heads, ours.downscale) == (steered.heads, 8)


def test_controlnet_files_sample_as_the_folder_does(sd: tuple[Path, Path], tmp_path: Path) -> None:
    base, _ = sd
    folder = controlnet(tmp_path / "net", base)
    hub = folder / "diffusion_pytorch_model.safetensors"
    reference = Pipeline.from_pretrained(base, controlnet=folder)
    net: Any = reference.backbone
    config = controlnet_file.ControlNetConfig.from_dict(json.loads((folder / "config.json").read_text()))
    names = {hub_name: name for name, hub_name in controlnet_file.key_map(net.nets[0], config).items()}
    tensors = {f"control_model.{names[name]}": tensor for name, tensor in load_file(hub).items()}
    torch.manual_seed(3)
    call = {**CALL, "control": torch.rand(3, 32, 16), "seed": 4}
    expected = reference("a", **call).latents
    whole = {**load_file(sd[1]), **tensors}  # as the first published files
    files = [hub, write(tmp_path / "file.safetensors", tensors), write(tmp_path / "whole.safetensors", whole)]
    for path in files:
        assert torch.equal(Pipeline.from_pretrained(base, controlnet=path)("a", **call).latents, expected)
    with pytest.raises(ValueError, match="holds: ControlNet.*load it by controlnet=FILE"):
        Pipeline.from_single_file(hub, base=base)
    with pytest.raises(ValueError, match="not a ControlNet"):
        Pipeline.from_pretrained(base, controlnet=sd[1])
