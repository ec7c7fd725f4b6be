"""ControlNets of Flux.1: latents of Diffusers on random weights, control modes, accelerators, and refusals."""

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.models import SteeredTransformer
from sadaflow.models.flux import FluxControlNet, FluxControlNetConfig
from sadaflow.pipeline.inputs import initial_noise
from sadaflow.pipeline.inspection import inspect
from support.accelerated import ACCELERATORS, STEPS, check_acceleration
from support.checkpoints_flux import flux
from support.checkpoints_steered import FLUX_NETS, flux_controlnet
from support.pictures import SIZE, generators, mask, picture, posterior_mode, quiet, relative

pytestmark = pytest.mark.usefixtures(posterior_mode.__name__)

PROMPTS = ["a red apple", "grinning face on wood!"]
CALL: dict[str, Any] = {"height": SIZE[0], "width": SIZE[1], "max_sequence_length": 48, "output": "latent"}
NOISE = initial_noise((16, SIZE[0] // 2, SIZE[1] // 2), [3, 4])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flux(tmp_path_factory.mktemp("flux") / "dev", "dev", num_layers=3)


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("nets")
    made = {style: flux_controlnet(root / style, style, seed) for seed, style in enumerate(FLUX_NETS)}
    made["union"] = flux_controlnet(root / "union-2", "union", num_layers=2)
    return made


def packed(latents: Tensor) -> Tensor:
    return diffusers.FluxPipeline._pack_latents(latents, *latents.shape)


def unpacked(latents: Tensor) -> Tensor:
    return diffusers.FluxPipeline._unpack_latents(latents, *SIZE, 2)


def reference(kind: str, base: Path, *nets: Path) -> Any:
    loaded = [diffusers.FluxControlNetModel.from_pretrained(net) for net in nets]
    return quiet(getattr(diffusers, kind).from_pretrained(base, controlnet=loaded if len(loaded) > 1 else loaded[0]))


def theirs(pipe: Any, **call: Any) -> Tensor:
    how = {"num_inference_steps": 4, "guidance_scale": 3.0, "output_type": "latent", "max_sequence_length": 48}
    size = {"height": SIZE[0], "width": SIZE[1]}
    made: Tensor = unpacked(pipe(PROMPTS, latents=packed(NOISE), **size, **how, **call).images)
    return made


@pytest.mark.parametrize("style", FLUX_NETS)
def test_full_size_networks_have_the_published_names_and_shapes(style: str) -> None:
    with torch.device("meta"):
        published = diffusers.FluxControlNetModel.from_config(FLUX_NETS[style])
        ours = FluxControlNet(FluxControlNetConfig.from_dict(FLUX_NETS[style]))
    shapes = [{name: tuple(t.shape) for name, t in net.state_dict().items()} for net in (ours, published)]
    assert shapes[0] == shapes[1]
    assert sum(tensor.numel() for tensor in ours.parameters()) > 7e8


@pytest.mark.parametrize(
    ("style", "mode", "true_guidance"), [("canny", None, 1.0), ("union", 4, 2.5), ("union-pro-2", None, 1.0)]
)
def test_latents_match(base: Path, nets: dict[str, Path], style: str, mode: int | None, true_guidance: float) -> None:
    pipe = Pipeline.from_pretrained(base, controlnet=nets[style])
    negative = {"negative_prompt": ["blurry", "cut off"]} if true_guidance > 1 else {}
    call = {"guidance": 3.0, "true_guidance": true_guidance, "steps": 4, "noise": NOISE, **CALL, **negative}
    call |= {"control": picture(), "control_scale": 0.7, "control_mode": mode}
    ours = pipe(PROMPTS, **call).latents
    made = theirs(
        reference("FluxControlNetPipeline", base, nets[style]), control_image=picture(), control_mode=mode,
        controlnet_conditioning_scale=0.7, true_cfg_scale=true_guidance, **negative,
    )  # fmt: skip
    assert relative(ours, made) < 1e-5
    assert relative(pipe(PROMPTS, **{**call, "control_scale": 0.0}).latents, made) > 1e-2
    if mode is not None:
        assert torch.equal(pipe(PROMPTS, **{**call, "control_mode": "pose"}).latents, ours)


def test_a_network_that_embeds_the_picture_itself(base: Path, nets: dict[str, Path]) -> None:
    """XLabs: convolutions of stride 8 in place of the autoencoder, and residuals that repeat."""
    net = diffusers.FluxControlNetModel.from_pretrained(nets["xlabs"])
    mine = FluxControlNet(FluxControlNetConfig.from_dict(dict(net.config)))
    mine.load_state_dict(net.state_dict())
    steered = SteeredTransformer(Pipeline.from_pretrained(base).backbone, [mine])
    transformer = diffusers.FluxTransformer2DModel.from_pretrained(base, subfolder="transformer")
    torch.manual_seed(1)
    x, pixels = torch.randn(2, 16, 8, 12), torch.rand(2, 3, 64, 96)
    context, pooled = torch.randn(2, 5, 32), torch.randn(2, 32)
    ids = {"img_ids": diffusers.FluxPipeline._prepare_latent_image_ids(2, 4, 6, "cpu", torch.float32)}
    ids["txt_ids"] = torch.zeros(5, 3)
    time, guidance = torch.full((2,), 0.4), torch.full((2,), 3.0)
    shared = {"timestep": time, "guidance": guidance, "pooled_projections": pooled, "encoder_hidden_states": context}
    with torch.no_grad():
        blocks, single = net(packed(x), 2 * pixels - 1, **shared, **ids, return_dict=False)
        made = transformer(
            packed(x), **shared, **ids, controlnet_block_samples=blocks, controlnet_single_block_samples=single,
            controlnet_blocks_repeat=True,
        ).sample  # fmt: skip
        ours = steered(
            x, 400.0, context=context, pooled=pooled, guidance=guidance,
            control=mine.embed_picture(2 * pixels - 1)[:, None], modes=torch.zeros(2, 1, dtype=torch.long),
            control_scales=[1.0],
        )  # fmt: skip
    assert relative(packed(ours), made) < 1e-5
    with pytest.raises(ValueError, match="ControlNet 0 takes 8 pixels per latent, the autoencoder has 2"):
        Pipeline.from_pretrained(base, controlnet=nets["xlabs"])


def test_several_networks_begin_and_end(base: Path, nets: dict[str, Path]) -> None:
    pair, pictures = [nets["canny"], nets["union-pro-2"]], [picture(0), picture(1)]
    pipe = Pipeline.from_pretrained(base, controlnet=pair)
    part = {"control_scale": [0.5, 1.2], "control_start": [0.0, 0.25], "control_end": [0.75, 1.0]}
    ours = pipe(PROMPTS, guidance=3.0, steps=4, noise=NOISE, control=pictures, **part, **CALL).latents
    made = theirs(
        reference("FluxControlNetPipeline", base, *pair), control_image=pictures,
        controlnet_conditioning_scale=[0.5, 1.2], control_guidance_start=[0.0, 0.25], control_guidance_end=[0.75, 1.0],
    )  # fmt: skip
    assert relative(ours, made) < 1e-5


def test_a_union_steers_by_two_pictures_and_is_held_once(base: Path, nets: dict[str, Path]) -> None:
    pipe = Pipeline.from_pretrained(base, controlnet=[nets["union"]] * 2)
    assert pipe.backbone.nets[0] is pipe.backbone.nets[1]
    call = {"control": [picture(0), picture(1)], "control_mode": ["depth", 0], "control_scale": [0.4, 0.8]}
    ours = pipe(PROMPTS, guidance=3.0, steps=4, noise=NOISE, **call, **CALL).latents
    union = diffusers.FluxControlNetModel.from_pretrained(nets["union"])
    several = diffusers.FluxMultiControlNetModel([union])
    made = theirs(
        quiet(diffusers.FluxControlNetPipeline.from_pretrained(base, controlnet=several)),
        control_image=[picture(0), picture(1)], control_mode=[2, 0], controlnet_conditioning_scale=[0.4, 0.8],
        control_guidance_start=[0.0, 0.0], control_guidance_end=[1.0, 1.0],  # a single number reads the first alone
    )  # fmt: skip
    assert relative(ours, made) < 1e-5


@pytest.mark.parametrize("kind", ["FluxControlNetImg2ImgPipeline", "FluxControlNetInpaintPipeline"])
def test_from_a_picture(base: Path, nets: dict[str, Path], kind: str) -> None:
    pipe = reference(kind, base, nets["canny"])
    start: dict[str, Any] = {"image": picture(1), "strength": 0.6}
    masks = ({"mask_image": mask()}, {"mask": mask()}) if "Inpaint" in kind else ({}, {})
    made = pipe(
        PROMPTS[0], control_image=picture(), controlnet_conditioning_scale=0.7, num_inference_steps=5,
        guidance_scale=3.0, height=SIZE[0], width=SIZE[1], output_type="latent", generator=generators(3)[0],
        max_sequence_length=48, **start, **masks[0],
    ).images  # fmt: skip
    ours = Pipeline.from_pretrained(base, controlnet=nets["canny"])(
        PROMPTS[0], control=picture(), control_scale=0.7, steps=5, guidance=3.0, seed=3, **CALL, **start, **masks[1]
    )
    assert relative(ours.latents, unpacked(made)) < 1e-5


@pytest.fixture(scope="module")
def controlled(base: Path, nets: dict[str, Path]) -> tuple[Pipeline, dict[str, Any], Any]:
    pipe = Pipeline.from_pretrained(base, controlnet=nets["union"])
    call = {**CALL, "seed": [1, 2], "control": picture(), "control_mode": 2, "guidance": 3.0}
    return pipe, call, pipe(PROMPTS, steps=STEPS, **call)


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_accelerators_decide_per_sample(controlled: tuple[Pipeline, dict[str, Any], Any], accelerator: str) -> None:
    pipe, call, plain = controlled
    check_acceleration(accelerator, pipe, PROMPTS, call, plain)


def test_a_cached_trunk_runs_no_controlnet(controlled: tuple[Pipeline, dict[str, Any], Any]) -> None:
    pipe, call, _ = controlled
    calls = []
    hook = pipe.backbone.nets[0].controlnet_blocks[0].register_forward_hook(lambda *_: calls.append(1))
    out = pipe(PROMPTS[0], steps=STEPS, **{**call, "seed": 1, "accelerator": "taylorseer interval=3"})
    hook.remove()
    assert len(calls) == out.stats.modes[0].count("full") < STEPS


@pytest.mark.parametrize(
    ("style", "arguments", "words"),
    [
        ("union", {}, "union of conditions: give that of its picture as control_mode="),
        ("union", {"control_mode": 10}, r"control_mode=10 for ControlNet 0, which has 0 to 9 \(num_mode\)"),
        ("union", {"control_mode": "dept"}, "unknown control_mode 'dept'.*depth"),
        ("union", {"control_mode": [0, 1]}, "control_mode has 2 entries for 1 ControlNet"),
        ("canny", {"control_mode": 0}, "ControlNet 0, which has a single condition"),
        ("canny", {"control_mode": -1}, "control_mode"),
    ],
)
def test_modes_that_do_not_fit_are_refused(
    base: Path, nets: dict[str, Path], style: str, arguments: dict[str, Any], words: str
) -> None:
    pipe = Pipeline.from_pretrained(base, controlnet=nets[style])
    with pytest.raises(ValueError, match=words):
        pipe(PROMPTS, steps=2, control=picture(), **CALL, **arguments)


def test_networks_that_do_not_fit_are_refused(base: Path, nets: dict[str, Path], tmp_path: Path) -> None:
    wide = flux_controlnet(tmp_path / "wide", "canny", joint_attention_dim=48)
    with pytest.raises(ValueError, match="does not fit the transformer: its joint_attention_dim is 48"):
        Pipeline.from_pretrained(base, controlnet=wide)
    fill = Path(shutil.copytree(base, tmp_path / "kontext"))
    index = json.loads((fill / "model_index.json").read_text())
    (fill / "model_index.json").write_text(json.dumps({**index, "_class_name": "FluxKontextPipeline"}))
    with pytest.raises(ValueError, match="this one also reads a reference"):
        Pipeline.from_pretrained(fill, controlnet=nets["canny"])
    with pytest.raises(ValueError, match="patch_size=2"):
        FluxControlNetConfig.from_dict({**FLUX_NETS["canny"], "patch_size": 2})


def test_inspect_names_it(nets: dict[str, Path]) -> None:
    found = inspect(nets["union"])
    assert (found.kind, found.supported, found.refused) == ("FluxControlNetModel", True, None)
