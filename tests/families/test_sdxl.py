"""Stable Diffusion XL, base and refiner: Diffusers' results on random checkpoints, and full-size parameter shapes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file

from sadaflow import Pipeline
from sadaflow.models import UNet, UNetConfig
from sadaflow.pipeline.inputs import initial_noise
from support.checkpoints import stable_diffusion_xl
from support.unet_configs import SD21, XL_BASE

PROMPTS = ["a red apple", "grinning face!"]

XL_REFINER = {
    **XL_BASE,
    "block_out_channels": (384, 768, 1536, 1536),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (6, 12, 24, 24),
    "transformer_layers_per_block": 4,
    "cross_attention_dim": 1280,
    "projection_class_embeddings_input_dim": 2560,
}


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stable_diffusion_xl(tmp_path_factory.mktemp("xl") / "base")


@pytest.fixture(scope="module")
def refiner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stable_diffusion_xl(tmp_path_factory.mktemp("xl") / "refiner", refiner=True, force_zeros=False)


@pytest.mark.parametrize("config", [SD21, XL_BASE, XL_REFINER], ids=["sd21", "xl-base", "xl-refiner"])
def test_full_size_networks_have_the_published_names_and_shapes(config: dict[str, object]) -> None:
    with torch.device("meta"):
        theirs = UNet2DConditionModel(**config)
        ours = UNet(UNetConfig.from_dict(dict(theirs.config)))
    shapes = [{name: tuple(t.shape) for name, t in net.state_dict().items()} for net in (ours, theirs)]
    assert shapes[0] == shapes[1]


def test_backbone_gives_the_reference_prediction(base: Path) -> None:
    theirs = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
    ours = Pipeline.from_pretrained(base).backbone
    torch.manual_seed(0)
    x, context, pooled = torch.randn(2, 4, 18, 22), torch.randn(2, 7, 48), torch.randn(2, 24)
    time_ids = torch.tensor([[36.0, 44, 0, 0, 36, 44], [72, 44, 3, 5, 36, 44]])
    added = {"text_embeds": pooled, "time_ids": time_ids}
    with torch.no_grad():
        expected = theirs(x, 321, context, added_cond_kwargs=added).sample
        assert relative(ours(x, 321.0, context, pooled=pooled, time_ids=time_ids), expected) < 1e-5
    with pytest.raises(ValueError, match="needs pooled="):
        ours(x, 321.0, context)


@pytest.mark.parametrize(
    ("negative", "size", "solver"), [("blurry", (40, 24), None), (None, (None, None), "dpmpp2m"), ("", (32, 32), None)]
)
def test_base_latents_and_images_match(
    base: Path, negative: str | None, size: tuple[int | None, int | None], solver: str | None
) -> None:
    reference = StableDiffusionXLPipeline.from_pretrained(base, add_watermarker=False)
    reference.set_progress_bar_config(disable=True)
    if solver == "dpmpp2m":
        reference.scheduler = DPMSolverMultistepScheduler.from_config(reference.scheduler.config)
    noise = initial_noise((4, (size[0] or 32) // 2, (size[1] or 32) // 2), [3, 4])
    ours = Pipeline.from_pretrained(base)(
        PROMPTS,
        negative_prompt=negative,
        steps=9,
        solver=solver,
        guidance=5.0,
        height=size[0],
        width=size[1],
        noise=noise,
        output="tensor",
    )

    def theirs(output: str) -> torch.Tensor:
        return reference(
            PROMPTS,
            negative_prompt=None if negative is None else [negative] * 2,
            num_inference_steps=9,
            guidance_scale=5.0,
            height=size[0],
            width=size[1],
            latents=noise.clone(),
            output_type=output,
        )[0]

    assert relative(ours.latents, theirs("latent")) < 1e-4
    assert relative(ours.images, theirs("pt")) < 1e-4


@pytest.mark.parametrize("guidance", [5.0, 1.0])
def test_refiner_latents_match_from_noise(refiner: Path, guidance: float) -> None:
    reference = StableDiffusionXLImg2ImgPipeline.from_pretrained(refiner, add_watermarker=False)
    reference.set_progress_bar_config(disable=True)
    noise = initial_noise((4, 20, 12), [3, 4])
    reference.scheduler.set_timesteps(9)
    theirs = reference(
        PROMPTS,
        image=torch.zeros(2, 3, 40, 24),
        latents=noise * reference.scheduler.init_noise_sigma,
        strength=1.0,
        num_inference_steps=9,
        guidance_scale=guidance,
        output_type="latent",
    )[0]
    pipe = Pipeline.from_pretrained(refiner)
    ours = pipe(PROMPTS, steps=9, guidance=guidance, noise=noise, output="latent")
    assert relative(ours.latents, theirs) < 1e-4


SIZES = {"original_size": (96, 70), "crop": (5, 12), "target_size": (48, 20)}
NEGATIVE = {"negative_original_size": (30, 34), "negative_crop": (9, 2), "negative_target_size": (26, 18)}


def as_the_reference_names(options: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("crop", "crops_coords_top_left"): value for name, value in options.items()}


@pytest.fixture(scope="module")
def attentive(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base checkpoint with larger weights for what the network is told, so that its numbers matter."""
    return attentive_to_ids(base, tmp_path_factory.mktemp("xl") / "attentive", 24)


@pytest.fixture(scope="module")
def attentive_refiner(refiner: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return attentive_to_ids(refiner, tmp_path_factory.mktemp("xl") / "attentive-refiner", 24)


def attentive_to_ids(folder: Path, copy: Path, pooled: int) -> Path:
    shutil.copytree(folder, copy)
    path = copy / "unet/diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["add_embedding.linear_1.weight"][:, pooled:] *= 20
    save_file(tensors, path)
    return copy


@pytest.mark.parametrize("options", [SIZES, {**SIZES, **NEGATIVE}], ids=["both branches", "each its own"])
def test_sizes_and_crops_are_told_as_in_the_reference(attentive: Path, options: dict[str, Any]) -> None:
    reference = StableDiffusionXLPipeline.from_pretrained(attentive, add_watermarker=False)
    reference.set_progress_bar_config(disable=True)
    noise = initial_noise((4, 20, 12), [3, 4])
    # One by one: in a batch the reference deals the rows of two branches that differ to the wrong samples.
    theirs = torch.cat(
        [
            reference(
                PROMPTS[sample],
                negative_prompt="blurry",
                num_inference_steps=5,
                guidance_scale=5.0,
                height=40,
                width=24,
                latents=noise[sample : sample + 1].clone(),
                output_type="latent",
                **as_the_reference_names(options),
            )[0]
            for sample in range(2)
        ]
    )
    pipe = Pipeline.from_pretrained(attentive)

    def ours(**told: Any) -> torch.Tensor:
        call = {"negative_prompt": "blurry", "steps": 5, "guidance": 5.0, "noise": noise, "output": "latent"}
        return pipe(PROMPTS, **call, **told).latents

    assert relative(ours(**options), theirs) < 1e-4
    for name in options:  # none of them is without effect
        assert relative(ours(**{key: value for key, value in options.items() if key != name}), theirs) > 1e-3


def test_scores_and_sizes_are_told_to_the_refiner_as_in_the_reference(attentive_refiner: Path) -> None:
    options: dict[str, Any] = {"aesthetic_score": 3.0, "negative_aesthetic_score": 8.5, "original_size": (96, 70)}
    options |= {"crop": (5, 12), "negative_original_size": (30, 34), "negative_crop": (9, 2)}
    reference = StableDiffusionXLImg2ImgPipeline.from_pretrained(attentive_refiner, add_watermarker=False)
    reference.set_progress_bar_config(disable=True)
    noise = initial_noise((4, 20, 12), [3, 4])
    reference.scheduler.set_timesteps(5)
    theirs = reference(
        PROMPTS,
        image=torch.zeros(2, 3, 40, 24),
        latents=noise * reference.scheduler.init_noise_sigma,
        strength=1.0,
        num_inference_steps=5,
        guidance_scale=5.0,
        output_type="latent",
        **as_the_reference_names(options),
    )[0]
    pipe = Pipeline.from_pretrained(attentive_refiner)

    def ours(**told: Any) -> torch.Tensor:
        return pipe(PROMPTS, steps=5, guidance=5.0, noise=noise, output="latent", **told).latents

    assert relative(ours(**options), theirs) < 1e-4
    for name in options:
        assert relative(ours(**{key: value for key, value in options.items() if key != name}), theirs) > 1e-3
    with pytest.raises(ValueError, match="target_size=.*no effect"):
        ours(target_size=(40, 24))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"original_size": (40,)}, r"original_size must be \(height, width\).*\(40,\)"),
        ({"negative_crop": (1.5, 0)}, r"negative_crop must be \(top, left\)"),
        ({"crop": (-1, 0)}, r"crop must be.*\(-1, 0\)"),
        ({"target_size": 40}, "target_size must be.*40"),
        ({"aesthetic_score": float("nan")}, "aesthetic_score must be a finite number"),
        ({"aesthetic_score": 6.0}, "aesthetic_score=6.0 has no effect"),
    ],
)
def test_what_cannot_be_told_is_refused(base: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Pipeline.from_pretrained(base)("a", **options)


def test_autoencoders_that_overflow_in_float16_are_held_in_float32(base: Path, tmp_path: Path) -> None:
    half, single = (Pipeline.from_pretrained(base, dtype=dtype) for dtype in (torch.float16, torch.float32))
    assert half.vae.config.force_upcast
    assert {x.dtype for x in half.backbone.parameters()} == {torch.float16}
    latents = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(half.family.decode(latents), single.family.decode(latents))
    config = json.loads((base / "vae/config.json").read_text())
    folder = Path(shutil.copytree(base, tmp_path / "checkpoint"))
    (folder / "vae/config.json").write_text(json.dumps({**config, "force_upcast": False}))
    vae = Pipeline.from_pretrained(folder, dtype=torch.float16).vae
    assert {x.dtype for x in vae.parameters()} == {torch.float16}


def test_sada_runs_per_sample_and_reports_no_pruning_where_nothing_can_be_pruned(base: Path) -> None:
    out = Pipeline.from_pretrained(base)(PROMPTS, steps=20, accelerator="sada", output="latent")
    for nfe, modes in zip(out.stats.nfe, out.stats.modes, strict=True):
        assert len(modes) == 20 and nfe == modes.count("full") < 20
        assert "tokens" not in modes and {"multistep", "stepwise"} & set(modes)


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("unet/config.json", {"addition_time_embed_dim": None}, "addition_time_embed_dim"),
        ("unet/config.json", {"addition_embed_type": "image"}, "addition_embed_type"),
        ("model_index.json", {"requires_aesthetics_score": True}, "requires_aesthetics_score"),
        ("model_index.json", {"text_encoder": [None, None]}, "text encoders are 32 wide"),
        ("model_index.json", {"text_encoder_2": ["transformers", "CLIPTextModel"]}, "text_encoder_2"),
    ],
)
def test_checkpoints_that_cannot_be_honoured(
    base: Path, tmp_path: Path, file: str, changes: dict[str, object], words: str
) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "checkpoint"))
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**content, **changes}))
    with pytest.raises(ValueError, match=words):
        Pipeline.from_pretrained(folder)
