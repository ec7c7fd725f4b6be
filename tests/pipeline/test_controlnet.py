"""ControlNets on SD 1.x, 2.x and XL against Diffusers on random checkpoints, and the arguments of a call."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    PNDMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetPipeline,
    UNet2DConditionModel,
)
from PIL import Image

from sadaflow import SADA, Pipeline, Uniform
from sadaflow.models import ControlledUNet, ControlNet, ControlNetConfig
from sadaflow.pipeline.inputs import initial_noise
from support.checkpoints import controlnet, stable_diffusion, stable_diffusion_xl
from support.unet_configs import SD21, XL_BASE

Folders = Callable[[str], tuple[Path, list[Path]]]
PROMPTS = ["a red apple", "grinning face!"]
SIZE = (40, 24)


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Of a style, the base checkpoint and two ControlNets for it, written once."""
    root, made = tmp_path_factory.mktemp("control"), {}

    def make(style: str) -> tuple[Path, list[Path]]:
        if style not in made:
            base = stable_diffusion_xl(root / style) if style == "sdxl" else stable_diffusion(root / style, style)
            nets = [controlnet(root / f"{style}-net{seed}", base, seed) for seed in (5, 6)]
            made[style] = (base, nets)
        return made[style]

    return make


def picture(seed: int, size: tuple[int, int]) -> Any:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("config", [SD21, XL_BASE], ids=["sd21", "xl"])
def test_full_size_networks_have_the_published_names_and_shapes(config: dict[str, object]) -> None:
    own = {name: value for name, value in config.items() if name not in ("sample_size", "up_block_types")}
    with torch.device("meta"):
        theirs = ControlNetModel(**own)
        ours = ControlNet(ControlNetConfig.from_dict(dict(theirs.config)))
    shapes = [{name: tuple(t.shape) for name, t in net.state_dict().items()} for net in (ours, theirs)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("style", ["sd15", "sdxl"])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_residuals_and_prediction_match(folders: Folders, tmp_path: Path, style: str, order: str) -> None:
    base, _ = folders(style)
    folder = controlnet(tmp_path / "net", base, controlnet_conditioning_channel_order=order)
    unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
    theirs = ControlNetModel.from_pretrained(folder)
    ours = Pipeline.from_pretrained(base, controlnet=folder).backbone
    assert isinstance(ours, ControlledUNet)
    torch.manual_seed(0)
    x, image, context = torch.randn(2, 4, 18, 22), torch.rand(2, 3, 36, 44), torch.randn(2, 7, 48)
    context = context[..., : ours.config.cross_attention_dim[0]]
    added: dict[str, torch.Tensor] = {}
    if style == "sdxl":
        added = {"pooled": torch.randn(2, 24), "time_ids": torch.rand(2, 6) * 40}
    kwargs = {"text_embeds": added.get("pooled"), "time_ids": added.get("time_ids")}
    with torch.no_grad():
        down, middle = theirs(x, 321, context, image, 0.7, added_cond_kwargs=kwargs, return_dict=False)
        expected = unet(
            x,
            321,
            context,
            added_cond_kwargs=kwargs,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample
        residuals = ours.nets[0](x, 321.0, context, image, **added)
        prediction = ours(x, 321.0, context, control=image[:, None], control_scales=[0.7], **added)
        without = ours(x, 321.0, context, control=image[:, None], control_scales=[0.0], **added)
    for mine, reference in zip(residuals, [*down, middle], strict=True):
        assert relative(0.7 * mine, reference) < 1e-5
    assert relative(prediction, expected) < 1e-5
    assert relative(without, expected) > 1e-2


def test_middle_without_attention() -> None:
    config = {
        "block_out_channels": (16, 32),
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "mid_block_type": "UNetMidBlock2D",
        "conditioning_embedding_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 8,
    }
    theirs = ControlNetModel(**config)
    ours = ControlNet(ControlNetConfig.from_dict(dict(theirs.config)))
    ours.load_state_dict(theirs.state_dict())
    torch.nn.init.normal_(theirs.controlnet_mid_block.weight)
    ours.controlnet_mid_block.load_state_dict(theirs.controlnet_mid_block.state_dict())
    x, image = torch.randn(1, 4, 8, 8), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        middle = theirs(x, 9, None, image).mid_block_res_sample
        assert relative(ours(x, 9.0, None, image)[-1], middle) < 1e-5


@pytest.mark.parametrize(("guidance", "scale"), [(1.0, 1.0), (6.0, 0.6)])
def test_pooled_residuals_steer_the_conditional_branch_only(
    folders: Folders, tmp_path: Path, guidance: float, scale: float
) -> None:
    """global_pool_conditions, as of control_v11e_sd15_shuffle."""
    base, nets = folders("sd15")
    folder = Path(shutil.copytree(nets[0], tmp_path / "shuffle"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "global_pool_conditions": True}))
    reference = StableDiffusionControlNetPipeline.from_pretrained(
        base, controlnet=ControlNetModel.from_pretrained(folder), safety_checker=None
    )
    reference.set_progress_bar_config(disable=True)
    noise, image = torch.randn(2, 4, SIZE[0] // 2, SIZE[1] // 2), torch.rand(3, *SIZE)
    expected = reference(
        PROMPTS, image[None].expand(2, -1, -1, -1), latents=noise, num_inference_steps=4, guidance_scale=guidance,
        controlnet_conditioning_scale=scale, height=SIZE[0], width=SIZE[1], output_type="latent",
    ).images  # fmt: skip
    pipe = Pipeline.from_pretrained(base, controlnet=folder)
    call: dict[str, Any] = {"steps": 4, "guidance": guidance, "noise": noise, "output": "latent", "progress": False}
    ours = pipe(PROMPTS, control=image, control_scale=scale, **call).latents
    assert relative(ours, expected) < 1e-5
    pipe.split_guidance = True
    assert relative(pipe(PROMPTS, control=image, control_scale=scale, **call).latents, expected) < 1e-5
    with pytest.raises(ValueError, match="ControlNet 0 of 2 has global_pool_conditions"):
        Pipeline.from_pretrained(base, controlnet=[folder, nets[0]])


@pytest.mark.parametrize(("style", "pndm"), [("sd15", False), ("sd15", True), ("sd21", False), ("sdxl", False)])
def test_one_net_latents_match(folders: Folders, style: str, pndm: bool) -> None:
    base, nets = folders(style)
    kind = StableDiffusionXLControlNetPipeline if style == "sdxl" else StableDiffusionControlNetPipeline
    reference = kind.from_pretrained(base, controlnet=ControlNetModel.from_pretrained(nets[0]), safety_checker=None)
    reference.set_progress_bar_config(disable=True)
    if pndm:
        reference.scheduler = PNDMScheduler.from_config(
            reference.scheduler.config, skip_prk_steps=True, timestep_spacing="leading"
        )
    image, noise = picture(0, (50, 60)), initial_noise((4, SIZE[0] // 2, SIZE[1] // 2), [3, 4])
    theirs = reference(
        PROMPTS,
        image=image,
        negative_prompt=["blurry"] * 2,
        num_inference_steps=9,
        guidance_scale=5.0,
        height=SIZE[0],
        width=SIZE[1],
        controlnet_conditioning_scale=0.8,
        control_guidance_start=0.2,
        control_guidance_end=0.7,
        latents=noise.clone(),
        output_type="latent",
    )[0]
    pipe = Pipeline.from_pretrained(base, controlnet=nets[0])
    out = pipe(
        PROMPTS,
        negative_prompt="blurry",
        steps=9,
        solver="pndm" if pndm else None,
        grid="leading" if pndm else None,
        guidance=5.0,
        noise=noise,
        control=image,
        control_scale=0.8,
        control_start=0.2,
        control_end=0.7,
        output="latent",
    )
    assert relative(out.latents, theirs) < 1e-4


@pytest.mark.parametrize("style", ["sd15", "sdxl"])
def test_two_nets_latents_match_with_an_image_per_sample(folders: Folders, style: str) -> None:
    base, nets = folders(style)
    kind = StableDiffusionXLControlNetPipeline if style == "sdxl" else StableDiffusionControlNetPipeline
    loaded = [ControlNetModel.from_pretrained(net) for net in nets]
    reference = kind.from_pretrained(base, controlnet=loaded, safety_checker=None)
    reference.set_progress_bar_config(disable=True)
    torch.manual_seed(0)
    images = [torch.rand(2, 3, *SIZE), torch.rand(1, 3, *SIZE)]
    noise = initial_noise((4, SIZE[0] // 2, SIZE[1] // 2), [3, 4])
    theirs = reference(
        PROMPTS,
        image=[images[0], images[1].repeat(2, 1, 1, 1)],
        num_inference_steps=9,
        guidance_scale=5.0,
        controlnet_conditioning_scale=[0.5, 1.2],
        control_guidance_start=[0.0, 0.3],
        control_guidance_end=[0.6, 1.0],
        latents=noise.clone(),
        output_type="latent",
    )[0]
    out = Pipeline.from_pretrained(base, controlnet=nets)(
        PROMPTS,
        steps=9,
        guidance=5.0,
        noise=noise,
        control=[images[0], images[1][0]],
        control_scale=[0.5, 1.2],
        control_start=[0.0, 0.3],
        control_end=[0.6, 1.0],
        output="latent",
    )
    assert relative(out.latents, theirs) < 1e-4


def test_skipped_steps_run_no_controlnet(folders: Folders) -> None:
    base, nets = folders("sd21")
    pipe = Pipeline.from_pretrained(base, controlnet=nets)
    calls = {"unet": 0, "net0": 0, "net1": 0}

    def count(name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            calls[name] += 1

        return hook

    backbone = pipe.backbone
    assert isinstance(backbone, ControlledUNet)
    for name, module in (("unet", backbone.unet), ("net0", backbone.nets[0]), ("net1", backbone.nets[1])):
        module.conv_in.register_forward_hook(count(name))
    controls = {"control": [picture(0, SIZE), picture(1, SIZE)], "height": SIZE[0], "width": SIZE[1]}
    out = pipe("a red apple", steps=20, accelerator=Uniform(), control_end=[1.0, 0.5], output="latent", **controls)
    assert out.stats.modes[0].count("full") == out.stats.nfe[0] == calls["unet"] == calls["net0"] < 20
    assert calls["net1"] == out.stats.modes[0][:10].count("full")
    out = pipe(PROMPTS, steps=20, accelerator=SADA(), output="latent", **controls)
    assert all(nfe < 20 and len(modes) == 20 for nfe, modes in zip(out.stats.nfe, out.stats.modes, strict=True))
    assert calls["unet"] == calls["net0"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "control= needs an image for each"),
        ({"control": ["one", "two"]}, "2 image"),
        ({"control": "edges.png"}, "got str"),
        ({"control": torch.rand(3, 8, 8)}, r"\(3, 8, 8\), expected \(3, 40, 24\)"),
        ({"control": torch.rand(5, 3, *SIZE)}, r"\(2, 3, 40, 24\)"),
        ({"control": torch.rand(3, *SIZE) * 2 - 1}, r"\[0, 1\]"),
        ({"control": torch.zeros(3, *SIZE, dtype=torch.uint8)}, "uint8"),
        ({"control": torch.full((3, *SIZE), torch.nan)}, r"\[0, 1\]"),
        ({"control": torch.rand(3, *SIZE), "control_scale": [1.0, 1.0]}, "control_scale has 2 entries"),
        ({"control": torch.rand(3, *SIZE), "control_start": 0.5, "control_end": 0.5}, "control_start=0.5"),
        ({"control": torch.rand(3, *SIZE), "control_end": 1.5}, "control_end=1.5"),
    ],
)
def test_calls_that_do_not_fit_are_refused(folders: Folders, arguments: dict[str, Any], words: str) -> None:
    base, nets = folders("sd15")
    pipe = Pipeline.from_pretrained(base, controlnet=nets[:1])
    with pytest.raises(ValueError, match=words):
        pipe(PROMPTS, steps=2, height=SIZE[0], width=SIZE[1], **arguments)


def test_control_without_controlnet_is_refused(folders: Folders) -> None:
    pipe = Pipeline.from_pretrained(folders("sd15")[0])
    with pytest.raises(ValueError, match="load the pipeline with controlnet="):
        pipe("a", steps=2, control=picture(0, (8, 8)))


def test_networks_that_do_not_fit_are_refused(folders: Folders, tmp_path: Path) -> None:
    base, nets = folders("sd15")
    with pytest.raises(ValueError, match="ControlNet 0 does not fit the U-Net: its block_out_channels"):
        Pipeline.from_pretrained(base, controlnet=folders("sdxl")[1][0])
    with pytest.raises(FileNotFoundError, match="config.json"):
        Pipeline.from_pretrained(base, controlnet=base)
    with pytest.raises(ValueError, match="holds a UNet2DConditionModel"):
        Pipeline.from_pretrained(base, controlnet=base / "unet")
    for field, value in (("conditioning_channels", 4), ("no_such_field", 1)):
        folder = Path(shutil.copytree(nets[0], tmp_path / field))
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, field: value}))
        with pytest.raises(ValueError, match=field):
            Pipeline.from_pretrained(base, controlnet=folder)
