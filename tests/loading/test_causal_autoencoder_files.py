"""The causal autoencoder in single files and folders, named by `vae=` beside a Qwen-Image checkpoint."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLQwenImage, AutoencoderKLWan, AutoencoderTiny
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from safetensors.torch import load_file
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.cli import main
from sadaflow.models.causal_autoencoder import CausalAutoencoder, CausalAutoencoderConfig
from support.checkpoints import stable_diffusion
from support.checkpoints_qwen_image import qwen_image
from support.checkpoints_wan import small_vae_ti2v, wan_text_image
from support.single_files import write
from support.wan_vae import authors_name_ti2v, to_authors

TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen_image(tmp_path_factory.mktemp("qwen_image") / "made")


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Weights of another autoencoder of the checkpoint's shapes."""
    torch.manual_seed(31)
    return AutoencoderKLQwenImage(base_dim=4, num_res_blocks=1).state_dict()


def test_names_are_converted_as_by_diffusers() -> None:
    hub = AutoencoderKLWan(base_dim=4).state_dict()
    named = to_authors(hub, 3)
    theirs = convert_wan_vae_to_diffusers(named)
    layout = CausalAutoencoder(CausalAutoencoderConfig(block_out_channels=(4, 8, 16, 16))).original
    ours = {new: value for name, tensor in named.items() for new, value in layout.convert(name, tensor).items()}
    assert set(ours) == set(hub) and not set(named) & set(hub)
    assert all(torch.equal(ours[name], tensor) for name, tensor in hub.items())
    # Of the decoder's shortcuts Diffusers knows that of published files alone, which is the only one here.
    assert set(theirs) == set(ours) and all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())
    assert all(torch.equal(layout.join(name, hub), tensor) for name, tensor in named.items())


def test_files_in_any_layout_and_folders(folder: Path, state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.manual_seed(31)
    AutoencoderKLWan(base_dim=4, num_res_blocks=1, latents_mean=[0.5] * 16).save_pretrained(tmp_path / "wan")
    sources = [
        write(tmp_path / "qwen_image_vae.safetensors", to_authors(state, 2)),
        write(tmp_path / "prefixed.safetensors", to_authors(state, 2, "first_stage_model.")),
        write(tmp_path / "hub.safetensors", state),
        tmp_path / "wan",
    ]
    published = Pipeline.from_pretrained(folder).vae.config
    for source in sources:
        vae = Pipeline.from_pretrained(folder, vae=source).vae
        assert all(torch.equal(vae.state_dict()[name], tensor) for name, tensor in state.items()), source
        if source.is_file():
            assert vae.config == published  # also the statistics, which a file does not have
        else:
            assert vae.config.latents_mean == (0.5,) * 16


@pytest.mark.parametrize(("authors", "prefix"), [(True, ""), (True, "vae."), (False, "")])
def test_files_of_wan_22_ti2v(tmp_path: Path, authors: bool, prefix: str) -> None:
    folder = wan_text_image(tmp_path / "made")
    torch.manual_seed(32)
    hub = small_vae_ti2v().state_dict()
    named = {prefix + (authors_name_ti2v(name) if authors else name): tensor for name, tensor in hub.items()}
    assert len(named) == len(hub)
    published = Pipeline.from_pretrained(folder).vae.config
    vae = Pipeline.from_pretrained(folder, vae=write(tmp_path / "wan2.2_vae.safetensors", named)).vae
    assert vae.config == published
    assert all(torch.equal(vae.state_dict()[name], tensor) for name, tensor in hub.items())


def test_a_file_with_transformer_and_autoencoder(folder: Path, state: dict[str, Tensor], tmp_path: Path) -> None:
    network = {f"model.diffusion_model.{name}": tensor for name, tensor in load_file(folder / TRANSFORMER).items()}
    file = write(tmp_path / "all.safetensors", {**network, **to_authors(state, 2, "vae.")})
    vae = Pipeline.from_single_file(file, base=folder).vae
    assert all(torch.equal(vae.state_dict()[name], tensor) for name, tensor in state.items())


def test_autoencoders_of_other_classes_are_refused(
    folder: Path, state: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "wan_2.1_vae.safetensors", to_authors(state, 2))
    sd = stable_diffusion(tmp_path / "sd", "sd15")
    with pytest.raises(ValueError, match=r"holds: autoencoder of Wan 2.1.*latents are those of an AutoencoderKL$"):
        Pipeline.from_pretrained(sd, vae=file)
    with pytest.raises(ValueError, match=r"holds: autoencoder, the Hub's.*those of an AutoencoderKLQwenImage"):
        Pipeline.from_pretrained(folder, vae=sd / "vae" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ValueError, match=r"config has class 'AutoencoderKL'; supported: AutoencoderKLQwenImage"):
        Pipeline.from_pretrained(folder, vae=sd)
    AutoencoderTiny(latent_channels=16).save_pretrained(tmp_path / "taef1")
    with pytest.raises(ValueError, match=r"tiny autoencoder; this checkpoint's latents are those of an AutoencoderKLQ"):
        Pipeline.from_pretrained(folder, vae=tmp_path / "taef1")
    cut = {name: tensor for name, tensor in to_authors(state, 2).items() if name != "decoder.upsamples.3.shortcut.bias"}
    with pytest.raises(ValueError, match=r"missing.*decoder.up_blocks.1.resnets.0.conv_shortcut.bias"):
        Pipeline.from_pretrained(folder, vae=write(tmp_path / "cut.safetensors", cut))
    assert main(["inspect", str(file)]) == 0
    assert "autoencoder of Wan 2.1 and Qwen-Image, authors' names" in capsys.readouterr().out
