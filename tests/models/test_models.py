"""Backbone and autoencoder against Diffusers' modules, with the same random weights."""

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from sadaflow.models import Autoencoder, AutoencoderConfig, Site, UNet, UNetConfig

UNET = {
    "sample_size": 16,
    "block_out_channels": (16, 32, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 2,
    "cross_attention_dim": 24,
    "norm_num_groups": 8,
    "attention_head_dim": 4,
}


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_linear_projection": True, "attention_head_dim": (2, 4, 8)},
        {"transformer_layers_per_block": (1, 2, 1), "layers_per_block": 1},
        {"flip_sin_to_cos": False, "freq_shift": 1},
    ],
)
@pytest.mark.parametrize("size", [(16, 16), (18, 22)])
def test_unet_gives_the_reference_prediction(changes: dict[str, object], size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    reference = UNet2DConditionModel(**{**UNET, **changes}).eval()
    ours = UNet(UNetConfig.from_dict(dict(reference.config)))
    ours.load_state_dict(reference.state_dict())
    x, context, timestep = torch.randn(2, 4, *size), torch.randn(2, 7, 24), torch.tensor([13.5, 700.0])
    with torch.no_grad():
        assert relative(ours(x, timestep, context), reference(x, timestep, context).sample) < 1e-5


@pytest.mark.parametrize("quant", [True, False])
def test_autoencoder_gives_the_reference_moments_and_images(quant: bool) -> None:
    torch.manual_seed(0)
    reference = AutoencoderKL(
        block_out_channels=(16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=2,
        norm_num_groups=8,
        use_quant_conv=quant,
        use_post_quant_conv=quant,
    ).eval()
    ours = Autoencoder(AutoencoderConfig.from_dict(dict(reference.config)))
    ours.load_state_dict(reference.state_dict())
    images, latents = torch.randn(2, 3, 32, 48), torch.randn(2, 4, 8, 12)
    with torch.no_grad():
        moments = reference.encode(images).latent_dist
        mean, logvar = ours.encode(images)
        assert relative(mean, moments.mean) < 1e-5
        assert relative(logvar, moments.logvar) < 1e-5
        assert relative(ours.decode(latents), reference.decode(latents).sample) < 1e-5


def test_autoencoder_knows_the_attention_names_of_old_checkpoints() -> None:
    prefix = "decoder.mid_block.attentions.0."
    assert Autoencoder.rename(f"{prefix}proj_attn.weight") == f"{prefix}to_out.0.weight"
    assert Autoencoder.rename(f"{prefix}query.bias") == f"{prefix}to_q.bias"
    assert Autoencoder.rename(f"{prefix}group_norm.weight") == f"{prefix}group_norm.weight"
    assert Autoencoder.rename("decoder.conv_in.weight") == "decoder.conv_in.weight"


def test_every_site_is_named_once_and_can_be_replaced() -> None:
    torch.manual_seed(0)
    unet = UNet(UNetConfig.from_dict(UNET)).eval()
    x, context = torch.randn(1, 4, 16, 16), torch.randn(1, 7, 24)
    seen: list[Site] = []

    def watch(site, fn, hidden, *args):  # type: ignore[no-untyped-def]
        seen.append(site)
        return fn(hidden, *args)

    def silence_blocks(site, fn, hidden, *args):  # type: ignore[no-untyped-def]
        return hidden if site.kind == "block" else fn(hidden, *args)

    with torch.no_grad():
        plain = unet(x, 10.0, context)
        assert torch.equal(unet(x, 10.0, context, watch), plain)
        assert not torch.allclose(unet(x, 10.0, context, silence_blocks), plain)
    names = [site.name for site in seen]
    assert len(set(names)) == len(names)
    shells = [site for site in seen if site.kind == "shell"]
    assert [site.depth for site in shells] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    blocks = {site.name for site in seen if site.kind == "block"}
    parameters = {name.rpartition(".attn1")[0] for name, _ in unet.named_parameters() if ".attn1." in name}
    assert blocks == parameters


@pytest.mark.parametrize(
    ("field", "value"),
    [("class_embed_type", "timestep"), ("no_such_field", 1), ("attention_head_dim", 5), ("norm_num_groups", 7)],
)
def test_unet_refuses_by_name_what_it_cannot_honour(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        UNetConfig.from_dict({**UNET, field: value})


def test_unet_refuses_blocks_that_do_not_mirror() -> None:
    with pytest.raises(ValueError, match="mirror"):
        UNetConfig.from_dict({**UNET, "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D")})
