"""Flux.1 Kontext pipelines: latents and images of Diffusers on random weights, with a picture to edit and without."""

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.pipelines.flux import pipeline_flux_kontext
from PIL import Image

from sadaflow import Pipeline
from sadaflow.families import FAMILIES
from sadaflow.models import call_through
from sadaflow.parallel.context import ContextSeam
from sadaflow.pipeline.inputs import initial_noise
from support.accelerated import ACCELERATORS, STEPS, check_acceleration
from support.checkpoints_flux import flux
from support.flux import backbone, conditioning, packed, relative
from support.pictures import picture, quiet

PUBLISHED = tuple(pipeline_flux_kontext.PREFERRED_KONTEXT_RESOLUTIONS)
"""Widths and heights in pixels."""
SMALL = [(16, 40), (24, 34), (32, 32), (34, 24), (40, 16)]
"""These in place of the published ones, which are about a million pixels."""
PROMPTS = ["make it blue", "far darker!"]
SIZE = {"height": 40, "width": 24}


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_flux_kontext, "PREFERRED_KONTEXT_RESOLUTIONS", SMALL)
    monkeypatch.setattr(FAMILIES["FluxKontextPipeline"], "sizes", [(height, width) for width, height in SMALL])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = flux(tmp_path_factory.mktemp("kontext") / "made", "dev")
    index = made / "model_index.json"
    # As published: the pipeline's further components, which it can do without, are null.
    further = {"_class_name": "FluxKontextPipeline", "image_encoder": [None, None], "feature_extractor": [None, None]}
    index.write_text(json.dumps({**json.loads(index.read_text()), **further}))
    return made


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Pipeline:
    return Pipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    return quiet(diffusers.FluxKontextPipeline.from_pretrained(folder))


@pytest.mark.parametrize("case", ["picture", "negative", "text"])
def test_latents_and_images_match(pipe: Pipeline, theirs: Any, case: str) -> None:
    size = SIZE if case != "text" else {"height": 24, "width": 32}
    images = [picture(1, (60, 40)), picture(2, (64, 44))]
    given = {} if case == "text" else {"image": images}
    noise = initial_noise((16, size["height"] // 2, size["width"] // 2), [3, 4])
    negative = {"negative_prompt": ["blurry"] * 2} if case == "negative" else {}
    scale = 3.0 if case == "negative" else 1.0
    call = {
        **given, **negative, **size, "max_sequence_length": 16, "num_inference_steps": 4, "latents": packed(noise),
        "guidance_scale": 2.5, "true_cfg_scale": scale, "max_area": size["height"] * size["width"],
    }  # fmt: skip
    latents, expected = (theirs(prompt=PROMPTS, **call, output_type=form).images for form in ("latent", "pt"))
    ours = {**negative, "true_guidance": scale, "max_sequence_length": 16, "steps": 4, **size}
    out = pipe(PROMPTS, **given, **ours, seed=[3, 4], output="tensor")
    assert relative(packed(out.latents), latents) < 1e-4
    assert relative(out.images, torch.as_tensor(expected)) < 1e-4
    assert out.stats.nfe == [4.0, 4.0]
    alone = {name: values[1] for name, values in {**given, **negative}.items()}
    second = pipe(PROMPTS[1], **{**ours, **alone}, seed=4, output="latent").latents
    assert relative(second, out.latents[1:]) < 1e-5


@pytest.mark.parametrize("size", [(60, 40), (30, 61), (28, 28), (20, 90)])
def test_a_picture_gets_the_size_of_the_reference(pipe: Pipeline, theirs: Any, size: tuple[int, int]) -> None:
    """The reference rounds the preferred sizes to whole tokens of 4 pixels; the result has the size of the picture."""
    seen = []
    hook = theirs.vae.encoder.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape[-2:])))
    image = picture(3, size)
    theirs(prompt="a", image=image, max_area=256, num_inference_steps=1, max_sequence_length=4, output_type="latent")
    hook.remove()
    out = pipe("a", image=image, steps=1, max_sequence_length=4, output="latent")
    assert tuple(2 * side for side in out.latents.shape[-2:]) == seen[0]


def test_sizes_and_settings_are_the_published_ones(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert sorted((width, height) for height, width in FAMILIES["FluxKontextPipeline"].sizes) == sorted(PUBLISHED)
    assert (pipe.recommended.guidance, pipe.recommended.steps) == (2.5, 28)


def test_transformer_reads_the_picture_as_tokens() -> None:
    reference, ours = backbone()
    inputs, timestep = conditioning(2), torch.tensor([987.3, 20.0])
    x, edited = torch.randn(2, 16, 12, 8), torch.randn(2, 16, 6, 10)
    make = diffusers.FluxPipeline._prepare_latent_image_ids
    ids, own = make(2, 6, 4, "cpu", torch.float32), make(2, 3, 5, "cpu", torch.float32)
    own[:, 0] = 1
    joint = torch.cat((packed(x), packed(edited)), dim=1)
    with torch.no_grad():
        theirs = reference(
            joint, inputs["context"], inputs["pooled"], timestep / 1000, torch.cat((ids, own)), torch.zeros(7, 3),
            inputs["guidance"],
        ).sample[:, :24]  # fmt: skip
        assert relative(packed(ours(x, timestep, **inputs, edited=edited)), theirs) < 1e-5
        with pytest.raises(ValueError, match="latents have 5x4 positions; FluxTransformer needs multiples of 2"):
            ours(x, timestep, **inputs, edited=edited[..., :5, :4])


@pytest.mark.parametrize(
    "accelerator", [pytest.param(name, marks=[pytest.mark.slow] * (name == "taylorseer")) for name in ACCELERATORS]
)
def test_accelerators_decide_per_sample(pipe: Pipeline, accelerator: str) -> None:
    call = {"image": picture(1, (60, 40)), "seed": [1, 2], "max_sequence_length": 16, "output": "latent", **SIZE}
    check_acceleration(accelerator, pipe, PROMPTS, call, pipe(PROMPTS, steps=STEPS, **call))


def test_the_exported_folder_is_of_the_same_class(pipe: Pipeline, tmp_path: Path) -> None:
    call = {"prompt": "a", "image": picture(1, (60, 40)), "steps": 2, "max_sequence_length": 8, "output": "latent"}
    again = Pipeline.from_pretrained(pipe.export(tmp_path / "out"))
    assert torch.equal(again(**call).latents, pipe(**call).latents)
    assert type(diffusers.DiffusionPipeline.from_pretrained(tmp_path / "out")) is diffusers.FluxKontextPipeline


@pytest.mark.slow
def test_compiled_quantized_and_offloaded_networks_draw_the_same(folder: Path, pipe: Pipeline) -> None:
    call = {"prompt": "a", "image": picture(1, (60, 40)), "steps": 2, "max_sequence_length": 8, "output": "latent"}
    expected = pipe(**call).latents
    assert relative(Pipeline.from_pretrained(folder).compile(backend="eager")(**call).latents, expected) < 1e-5
    assert relative(Pipeline.from_pretrained(folder, offload="stream")(**call).latents, expected) < 1e-6
    assert relative(Pipeline.from_pretrained(folder, quantize="int8")(**call).latents, expected) < 0.1


def test_the_picture_is_not_divided_among_processes() -> None:
    class Second:
        rank, size = 1, 2

    axis: Any = Second()
    _, ours = backbone()
    with pytest.raises(ValueError, match="neither text nor image"), torch.no_grad():
        ours(torch.randn(1, 16, 4, 4), 500.0, **conditioning(1), edited=torch.randn(1, 16, 4, 4),
             seam=ContextSeam(axis, call_through))  # fmt: skip


def test_what_has_no_effect_is_refused(pipe: Pipeline, tmp_path: Path) -> None:
    one = picture(1, (60, 40))
    for wrong, message in (
        ({"image": one, "strength": 0.5}, "strength= has no effect on a checkpoint that edits a picture"),
        ({"image": one, "mask": Image.new("L", one.size, 255)}, "mask= has no effect"),
        ({"image": one, "posterior": "sample"}, "posterior= has no effect"),
        ({"image": torch.zeros(16, 8, 8)}, r"a tensor of shape \(16, 8, 8\) is not a picture"),
        ({"image": [one, one]}, "image has 2 entries for 1 prompt"),
    ):
        with pytest.raises(ValueError, match=message):
            pipe("darker", steps=2, **wrong)
    with pytest.raises(ValueError, match="pictures of several proportions"):
        pipe(["a", "b"], image=[one, picture(1, (40, 60))], steps=2, **SIZE)
    wide = flux(tmp_path / "wide", "dev", in_channels=128, out_channels=64)
    index = wide / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": "FluxKontextPipeline"}))
    with pytest.raises(ValueError, match="vae's latents are 16 wide, the transformer's in_channels / 4 is 32"):
        Pipeline.from_pretrained(wide)
