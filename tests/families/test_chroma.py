"""Chroma pipelines: latents and images of Diffusers with a true mask on random weights, padded prompts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ChromaPipeline, ChromaTransformer2DModel
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.models.chroma import ChromaConfig, ChromaTransformer
from sadaflow.pipeline.inputs import initial_noise
from sadaflow.pipeline.inspection import inspect
from sadaflow.pipeline.output import Output
from support.accelerated import ACCELERATORS, STEPS, check_acceleration
from support.checkpoints_chroma import PUBLISHED, chroma
from support.flux import packed, relative

PROMPTS = ["a red apple", "grinning face on a table!"]
NEGATIVES = ["blurry", "cut off at a side of it"]
SIZE = (24, 16)
CALL = {"seed": [1, 2], "height": 24, "width": 16, "guidance": 2.0, "output": "latent"}


class Masked(ChromaPipeline):
    """The pipeline with a mask that is one: published, it is a bias of 1 in favour of what should be read alone."""

    def _prepare_attention_mask(self, *args: Any, **kwargs: Any) -> Tensor | None:
        mask = super()._prepare_attention_mask(*args, **kwargs)
        return None if mask is None else mask.bool()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chroma(tmp_path_factory.mktemp("chroma") / "made")


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Pipeline:
    return Pipeline.from_pretrained(folder)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_latents_and_images_match(folder: Path, pipe: Pipeline, guidance: float) -> None:
    noise = initial_noise((16, SIZE[0] // 2, SIZE[1] // 2), [3, 4])
    reference = Masked.from_pretrained(folder)
    reference.set_progress_bar_config(disable=True)

    def theirs(output: str) -> Tensor:
        return reference(
            PROMPTS,
            negative_prompt=NEGATIVES,
            guidance_scale=guidance,
            height=SIZE[0],
            width=SIZE[1],
            num_inference_steps=4,
            latents=packed(noise),
            max_sequence_length=48,
            output_type=output,
        ).images

    out = pipe(
        PROMPTS,
        negative_prompt=NEGATIVES,
        guidance=guidance,
        height=SIZE[0],
        width=SIZE[1],
        steps=4,
        seed=[3, 4],
        max_sequence_length=48,
        output="tensor",
    )
    assert relative(packed(out.latents), theirs("latent")) < 1e-4
    assert relative(out.images, torch.as_tensor(theirs("pt"))) < 1e-4
    assert out.stats.nfe == [4.0, 4.0]


def test_full_size_parameters_have_the_reference_names_and_shapes() -> None:
    with torch.device("meta"):
        reference = ChromaTransformer2DModel.from_config(PUBLISHED)
        ours = ChromaTransformer(ChromaConfig.from_dict(PUBLISHED))
    shapes = [{name: tuple(tensor.shape) for name, tensor in m.state_dict().items()} for m in (reference, ours)]
    assert shapes[0] == shapes[1]
    assert 8.8e9 < sum(tensor.numel() for tensor in ours.parameters()) < 9e9


def test_what_pads_a_prompt_does_not_change_its_picture(pipe: Pipeline) -> None:
    call = {**CALL, "steps": 3}
    long = pipe(PROMPTS, **call).latents
    assert relative(pipe(PROMPTS, **call, max_sequence_length=40).latents, long) < 1e-5
    assert relative(pipe(PROMPTS[0], **{**call, "seed": 1}).latents, long[:1]) < 1e-5
    with pytest.warns(UserWarning, match="cut to 8"):
        assert relative(pipe(PROMPTS, **call, max_sequence_length=8).latents, long) > 1e-3


@pytest.fixture(scope="module")
def unaccelerated(pipe: Pipeline) -> Output:
    return pipe(PROMPTS, steps=STEPS, **CALL)


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_accelerators_decide_per_sample(pipe: Pipeline, accelerator: str, unaccelerated: Output) -> None:
    check_acceleration(accelerator, pipe, PROMPTS, CALL, unaccelerated)


def test_inspect_recommends_what_the_authors_do(folder: Path) -> None:
    found = inspect(folder)
    assert (found.refused, found.steps, found.guidance, found.solver) == (None, 40, 3.0, "euler")


@pytest.mark.parametrize(
    ("field", "value"), [("patch_size", 2), ("axes_dims_rope", [8, 8]), ("in_channels", 63), ("novel", 1)]
)
def test_configs_that_cannot_be_honoured_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        ChromaConfig.from_dict({**PUBLISHED, field: value})
