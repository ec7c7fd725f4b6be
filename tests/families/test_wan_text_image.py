"""Wan 2.2 TI2V: latents and frames of Diffusers on random weights, from text and from a picture; accelerators."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline, WanTransformer3DModel
from PIL import Image

from sadaflow import SADA, Pipeline
from sadaflow.accelerators import TeaCache
from sadaflow.models.wan import WanConfig, WanTransformer
from sadaflow.pipeline.inputs import initial_noise
from sadaflow.pipeline.output import Output
from support.accelerated import STEPS, check_acceleration
from support.checkpoints_wan import TRANSFORMER_TI2V, small_transformer, wan_text_image
from support.flux import relative

PROMPTS = ["a red apple", "a dog runs on a table!"]
NEGATIVES = ["blurry", "cut off"]
SIZE = {"height": 64, "width": 96}
CALL: dict[str, Any] = {**SIZE, "seed": [3, 4], "num_frames": 9, "guidance": 3.0, "max_sequence_length": 40}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wan_text_image(tmp_path_factory.mktemp("wan") / "made")


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Pipeline:
    return Pipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    rows, columns = np.mgrid[0:40, 0:52]
    return Image.fromarray(np.stack([rows * 5, columns * 4, (rows + columns) * 2], axis=-1).astype(np.uint8))


def theirs(kind: type[Any], folder: Path, frames: int, guidance: float, **further: Any) -> dict[str, torch.Tensor]:
    """Latents ("latent") and frames ("pt") of Diffusers."""
    reference = kind.from_pretrained(folder)
    reference.set_progress_bar_config(disable=True)
    noise = initial_noise((48, (frames - 1) // 4 + 1, 4, 6), [3, 4])
    how = {"num_frames": frames, "num_inference_steps": 4, "max_sequence_length": 40, "guidance_scale": guidance}
    call = {"prompt": PROMPTS, "negative_prompt": NEGATIVES, "latents": noise, **SIZE, **how, **further}
    return {name: torch.as_tensor(reference(**call, output_type=name).frames) for name in ("latent", "pt")}


@pytest.mark.parametrize(("frames", "guidance"), [(1, 1.0), (5, 4.0)])
def test_videos_from_text_match(folder: Path, pipe: Pipeline, frames: int, guidance: float) -> None:
    expected = theirs(WanPipeline, folder, frames, guidance)
    call = {**CALL, "num_frames": frames, "guidance": guidance, "steps": 4, "output": "tensor"}
    out = pipe(PROMPTS, negative_prompt=NEGATIVES, **call)
    assert relative(out.latents, expected["latent"]) < 1e-4
    assert relative(out.videos, expected["pt"]) < 1e-4
    assert out.fps == 24


@pytest.mark.parametrize("frames", [1, 9])
def test_videos_that_continue_a_picture_match(folder: Path, pipe: Pipeline, picture: Any, frames: int) -> None:
    expected = theirs(WanImageToVideoPipeline, folder, frames, 3.0, image=picture)
    call = {**CALL, "num_frames": frames, "steps": 4}
    out = pipe(PROMPTS, image=picture, negative_prompt=NEGATIVES, output="tensor", **call)
    assert relative(out.latents, expected["latent"]) < 1e-4
    assert relative(out.videos, expected["pt"]) < 1e-4
    call = {**call, "seed": 4, "output": "latent"}
    alone = pipe(PROMPTS[1], image=picture, negative_prompt=NEGATIVES[1], **call)
    assert relative(alone.latents, out.latents[1:]) < 1e-4


def test_a_checkpoint_of_the_other_class_needs_the_picture(pipe: Pipeline, picture: Any, tmp_path: Path) -> None:
    other = Pipeline.from_pretrained(wan_text_image(tmp_path / "image", WanImageToVideoPipeline))
    call = {**CALL, "steps": 2, "output": "latent"}
    with pytest.raises(ValueError, match="give image=, the first frame"):
        other(PROMPTS, **call)
    with pytest.raises(ValueError, match="strength= has no effect"):
        pipe(PROMPTS, image=picture, strength=0.5, **call)
    assert torch.equal(*(each(PROMPTS, image=picture, **call).latents for each in (pipe, other)))


def test_full_size_parameters_have_the_reference_names_and_shapes() -> None:
    with torch.device("meta"):
        reference = WanTransformer3DModel.from_config(TRANSFORMER_TI2V)
        ours = WanTransformer(WanConfig.from_dict(TRANSFORMER_TI2V))
    shapes = [{name: tuple(tensor.shape) for name, tensor in m.state_dict().items()} for m in (reference, ours)]
    assert shapes[0] == shapes[1]
    assert sum(tensor.numel() for tensor in ours.parameters()) / 1e9 == pytest.approx(5.0, abs=0.01)


def test_the_time_of_the_first_frame_is_zero() -> None:
    torch.manual_seed(2)
    reference = small_transformer().eval()
    ours = WanTransformer(WanConfig.from_dict(dict(reference.config))).eval()
    ours.load_state_dict(reference.state_dict())
    x, first, context = torch.randn(2, 16, 3, 6, 4), torch.randn(2, 16, 1, 6, 4), torch.randn(2, 7, 48)
    times = torch.tensor([900, 300])[:, None].repeat(1, 3 * 3 * 2)
    times[:, : 3 * 2] = 0
    with torch.no_grad():
        expected = reference(torch.cat((first, x[:, :, 1:]), dim=2), times, context)[0]
        assert relative(ours(x, times[:, -1], context, first=first), expected) < 1e-5


@pytest.fixture(scope="module")
def continued(picture: Any) -> dict[str, Any]:
    return {**CALL, "image": picture, "output": "latent"}


@pytest.fixture(scope="module")
def unaccelerated(pipe: Pipeline, continued: dict[str, Any]) -> Output:
    return pipe(PROMPTS, steps=STEPS, **continued)


@pytest.mark.parametrize("accelerator", ["sada", "teacache"])
def test_accelerators_keep_the_picture(
    pipe: Pipeline, accelerator: str, continued: dict[str, Any], unaccelerated: Output
) -> None:
    check_acceleration(accelerator, pipe, PROMPTS, continued, unaccelerated)
    fast = pipe(PROMPTS, steps=STEPS, accelerator=accelerator, **continued)
    assert torch.equal(fast.latents[:, :, 0], unaccelerated.latents[:, :, 0])


def test_tokens_with_times_of_their_own_are_pruned_and_looked_at(
    pipe: Pipeline, continued: dict[str, Any], unaccelerated: Output
) -> None:
    pruned = SADA(token_trunk=True, multistep_start=0.9, weights=(4.0, 0.0, 0.0), token_cell=2, token_limit=6)
    out = pipe(PROMPTS, **{**continued, "solver": "euler"}, steps=STEPS, accelerator=pruned)
    assert "tokens" in out.stats.modes[0] and out.latents.isfinite().all()
    by_time = pipe(PROMPTS, **continued, steps=STEPS, accelerator=TeaCache(0.3, indicator="time"))
    assert all(nfe < STEPS for nfe in by_time.stats.nfe)
    assert 0 < relative(by_time.latents, unaccelerated.latents) < 0.5
