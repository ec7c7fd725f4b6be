"""Stable Diffusion 3 and 3.5 pipelines: latents and images of Diffusers on random weights, sigmas, a missing T5."""

from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.models.sd3 import SD3Config, SD3Transformer
from sadaflow.pipeline.inputs import initial_noise
from sadaflow.pipeline.inspection import inspect
from sadaflow.pipeline.output import Output
from support.accelerated import ACCELERATORS, STEPS, check_acceleration
from support.checkpoints_sd3 import PUBLISHED, sd3
from support.flux import relative

PROMPTS = ["a red apple", "grinning face on wood!"]
NEGATIVES = ["blurry", "cut off at a side"]
SIZE = (24, 16)
CALL = {"seed": [1, 2], "height": 24, "width": 16, "guidance": 2.0, "output": "latent", "max_sequence_length": 24}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sd3(tmp_path_factory.mktemp("sd3") / "medium", "3.5 medium")


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Pipeline:
    return Pipeline.from_pretrained(folder)


def theirs(folder: Path, guidance: float, output: str, noise: Tensor) -> Tensor:
    missing = {} if (folder / "text_encoder_3").is_dir() else {"text_encoder_3": None, "tokenizer_3": None}
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, **missing)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        PROMPTS,
        negative_prompt=NEGATIVES,
        guidance_scale=guidance,
        height=SIZE[0],
        width=SIZE[1],
        num_inference_steps=4,
        latents=noise,
        output_type=output,
    ).images


@pytest.mark.parametrize(
    ("style", "guidance", "t5"),
    [("3 medium", 3.0, True), ("3.5 medium", 3.0, True), ("3.5 medium", 0.0, True), ("3.5 large", 3.0, False)],
)
def test_latents_and_images_match(tmp_path: Path, style: str, guidance: float, t5: bool) -> None:
    folder = sd3(tmp_path / "made", style, t5=t5)
    noise = initial_noise((16, SIZE[0] // 2, SIZE[1] // 2), [3, 4])
    out = Pipeline.from_pretrained(folder)(
        PROMPTS,
        negative_prompt=NEGATIVES,
        guidance=guidance,
        height=SIZE[0],
        width=SIZE[1],
        steps=4,
        seed=[3, 4],
        output="tensor",
    )
    assert relative(out.latents, theirs(folder, guidance, "latent", noise)) < 1e-4
    assert relative(out.images, torch.as_tensor(theirs(folder, guidance, "pt", noise))) < 1e-4
    assert out.stats.nfe == [4.0, 4.0]


@pytest.mark.parametrize("style", PUBLISHED)
def test_full_size_parameters_have_the_reference_names_and_shapes(style: str) -> None:
    with torch.device("meta"):
        reference = SD3Transformer2DModel.from_config(PUBLISHED[style])
        ours = SD3Transformer(SD3Config.from_dict(PUBLISHED[style]))
    shapes = [{name: tuple(tensor.shape) for name, tensor in m.state_dict().items()} for m in (reference, ours)]
    assert shapes[0] == shapes[1]
    assert sum(tensor.numel() for tensor in ours.parameters()) > 2e9


@pytest.mark.parametrize("steps", [1, 4, 28])
def test_sigmas_are_those_that_the_scheduler_chooses(pipe: Pipeline, steps: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(steps)
    ours = torch.tensor([point.t for point in pipe.solver(None, steps).grid.points])
    assert torch.allclose(ours, scheduler.sigmas.to(ours), atol=1e-6)


@pytest.fixture(scope="module")
def unaccelerated(pipe: Pipeline) -> Output:
    return pipe(PROMPTS, steps=STEPS, **CALL)


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_accelerators_decide_per_sample(pipe: Pipeline, accelerator: str, unaccelerated: Output) -> None:
    check_acceleration(accelerator, pipe, PROMPTS, CALL, unaccelerated)


def test_attentions_and_blocks_are_sites(pipe: Pipeline) -> None:
    seen = []

    def watch(site, fn, hidden, *args):  # type: ignore[no-untyped-def]
        seen.append((site.kind, site.name, site.prefix, hidden.shape[1]))
        return fn(hidden, *args)

    x, context, pooled = torch.randn(1, 16, 8, 6), torch.randn(1, 5, 48), torch.randn(1, 44)
    with torch.no_grad():
        plain = pipe.backbone(x, 500.0, context=context, pooled=pooled)
        assert torch.equal(pipe.backbone(x, 500.0, context=context, pooled=pooled, seam=watch), plain)
    name = "transformer_blocks.0"
    assert seen[0] == ("trunk", "trunk", 0, 12)
    assert seen[1:4] == [
        ("block", name, 5, 17), ("attention", f"{name}.attn", 5, 17), ("attention", f"{name}.attn2", 0, 12)
    ]  # fmt: skip
    assert [kind for kind, *_ in seen] == ["trunk", *["block", "attention", "attention"] * 2, "block", "attention"]


@pytest.mark.parametrize(
    ("style", "steps", "guidance"), [("3 medium", 28, 7.0), ("3.5 medium", 40, 4.5), ("3.5 large", 28, 3.5)]
)
def test_inspect_recommends_what_the_authors_do(tmp_path: Path, style: str, steps: int, guidance: float) -> None:
    found = inspect(sd3(tmp_path / "made", style))
    assert (found.refused, found.notes) == (None, ())
    assert (found.steps, found.guidance, found.solver) == (steps, guidance, "euler")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("patch_size", 4),
        ("qk_norm", "layer_norm"),
        ("caption_projection_dim", 100),
        ("dual_attention_layers", [24]),
        ("novel", 1),
    ],
)
def test_configs_that_cannot_be_honoured_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        SD3Config.from_dict({**PUBLISHED["3.5 medium"], field: value})


def test_pictures_larger_than_the_grid_of_positions_are_refused(pipe: Pipeline) -> None:
    with pytest.raises(ValueError, match="32x32"):
        pipe(PROMPTS[0], height=72, width=24, steps=1, output="latent")
