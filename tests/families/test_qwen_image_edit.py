"""Qwen-Image-Edit pipelines: latents and images of Diffusers on random weights, with one picture and with several."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus
from PIL import Image
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2TokenizerFast
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from sadaflow import Pipeline
from sadaflow.families import FAMILIES
from sadaflow.families.picture_patches import PatchSettings
from sadaflow.families.picture_text import picture_positions
from sadaflow.models import Site, call_through
from sadaflow.parallel.context import ContextSeam
from sadaflow.pipeline.inputs import initial_noise
from support.accelerated import ACCELERATORS, STEPS, check_acceleration
from support.checkpoints_qwen_image import PUBLISHED_PROCESSOR, qwen_image_edit
from support.flux import relative

AREA, SEEN = 96 * 96, 64 * 64  # pixels, in place of the published million
SIZE = (64, 48)
PAD = "<|image_pad|>"


@pytest.fixture(autouse=True)
def small_areas(monkeypatch: pytest.MonkeyPatch) -> None:
    published = pipeline_qwenimage_edit.calculate_dimensions
    monkeypatch.setattr(pipeline_qwenimage_edit, "calculate_dimensions", lambda area, ratio: published(AREA, ratio))
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", AREA)
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "CONDITION_IMAGE_SIZE", SEEN)
    edit, plus = FAMILIES["QwenImageEditPipeline"], FAMILIES["QwenImageEditPlusPipeline"]
    monkeypatch.setattr(edit, "area", AREA)
    monkeypatch.setattr(edit, "seen_area", AREA)
    monkeypatch.setattr(plus, "seen_area", SEEN)


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC)


@pytest.fixture(scope="module", params=[False, True], ids=["edit", "plus"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen_image_edit(tmp_path_factory.mktemp("edit") / "made", plus=request.param)


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Pipeline:
    return Pipeline.from_pretrained(folder)


class Processor:
    """The processor on transformers' Pillow backend; Qwen2VLProcessor itself needs torchvision."""

    def __init__(self, tokenizer: Any) -> None:
        fields = {name: value for name, value in PUBLISHED_PROCESSOR.items() if name.endswith("_pixels")}
        self.tokenizer, self.pictures = tokenizer, Qwen2VLImageProcessorPil(**fields)

    def __call__(self, text: list[str], images: Any, padding: bool, return_tensors: str) -> Any:
        read = self.pictures(images, return_tensors=return_tensors)
        grids = read["image_grid_thw"]
        first, *rest = text[0].split(PAD)
        spelled = first + "".join(int(g.prod()) // 4 * PAD + part for g, part in zip(grids, rest, strict=True))
        words = self.tokenizer([spelled], padding=padding, return_tensors=return_tensors)
        words.update(read)
        return words


def reference(folder: Path, plus: bool) -> Any:
    """Diffusers' pipeline. It leaves out the token types from which transformers 5 computes positions on a grid."""
    tokenizer = Qwen2TokenizerFast.from_pretrained(folder / "tokenizer")
    language = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "text_encoder")
    plain, token = language.forward, tokenizer.convert_tokens_to_ids(PAD)

    def forward(input_ids: Tensor, **given: Any) -> Any:
        return plain(input_ids=input_ids, mm_token_type_ids=(input_ids == token).int(), **given)

    language.forward = forward
    made = (QwenImageEditPlusPipeline if plus else QwenImageEditPipeline)(
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
        vae=AutoencoderKLQwenImage.from_pretrained(folder / "vae"),
        text_encoder=language,
        tokenizer=tokenizer,
        processor=None,
        transformer=QwenImageTransformer2DModel.from_pretrained(folder / "transformer"),
    )
    made.processor = Processor(tokenizer)
    made.set_progress_bar_config(disable=True)
    return made


def test_latents_and_images_match(folder: Path, pipe: Pipeline) -> None:
    plus = "Plus" in (folder / "model_index.json").read_text()
    pictures = [picture(1, (70, 50)), picture(2, (40, 60))] if plus else picture(1, (70, 50))
    noise = initial_noise((16, SIZE[0] // 8, SIZE[1] // 8), [3])
    size = {"height": SIZE[0], "width": SIZE[1]}
    theirs, encoded = reference(folder, plus), []
    encode = theirs.encode_prompt
    theirs.encode_prompt = lambda *args, **given: encoded.append(encode(*args, **given)) or encoded[-1]
    call = partial(
        theirs, pictures, "make it blue", negative_prompt="blurry", true_cfg_scale=2.5, **size,
        num_inference_steps=3, latents=QwenImagePipeline._pack_latents(noise[:, :, None], 1, *noise.shape[1:]),
    )  # fmt: skip
    latents = QwenImagePipeline._unpack_latents(call(output_type="latent").images, *SIZE, 8)[:, :, 0]
    ours = {"negative_prompt": "blurry", "guidance": 2.5, "steps": 3, "output": "tensor", **size}
    out = pipe("make it blue", image=pictures, seed=3, **ours)
    assert relative(out.latents, latents) < 1e-4
    given = {"prompt_embeds": encoded[0][0], "negative_embeds": encoded[1][0]}
    unnamed = {name: value for name, value in ours.items() if name != "negative_prompt"}
    assert relative(pipe(**given, image=pictures, seed=3, **unnamed).latents, latents) < 1e-4
    assert relative(out.images, torch.as_tensor(call(output_type="pt").images)) < 1e-4
    rows = [pictures, [picture(4, (70, 50)), picture(5, (40, 60))]] if plus else [pictures, picture(4, (70, 50))]
    both = pipe(["make it blue", "a far longer prompt"], image=rows, seed=[3, 4], **ours)
    assert relative(both.latents[:1], out.latents) < 1e-5
    assert both.stats.nfe == [3.0, 3.0]


def test_the_result_has_the_size_of_the_picture(pipe: Pipeline) -> None:
    out = pipe("darker", image=picture(1, (60, 120)), guidance=1, steps=2, output="latent")
    assert out.latents.shape[-2:] == (64 // 8, 128 // 8)


@pytest.mark.parametrize(
    "accelerator", [name if name == "sada" else pytest.param(name, marks=pytest.mark.slow) for name in ACCELERATORS]
)
def test_accelerators_decide_per_sample(pipe: Pipeline, accelerator: str) -> None:
    prompts, size = ["bluer", "much darker, with a frame around it"], {"height": 48, "width": 32}
    image = picture(1, (70, 50))
    call = {"image": image, "seed": [1, 2], "guidance": 2.0, "negative_prompt": "x", "output": "latent", **size}
    check_acceleration(accelerator, pipe, prompts, call, pipe(prompts, steps=STEPS, **call))


@pytest.mark.slow
def test_compiled_quantized_and_offloaded_networks_draw_the_same(folder: Path, pipe: Pipeline) -> None:
    call = {"prompt": "darker", "image": picture(1, (70, 50)), "guidance": 1, "steps": 2, "output": "latent"}
    expected = pipe(**call).latents
    assert relative(Pipeline.from_pretrained(folder).compile(backend="eager")(**call).latents, expected) < 1e-5
    assert relative(Pipeline.from_pretrained(folder, offload="stream")(**call).latents, expected) < 1e-6
    assert relative(Pipeline.from_pretrained(folder, quantize="int8")(**call).latents, expected) < 0.1


def test_pictures_to_edit_are_not_divided_among_processes(pipe: Pipeline) -> None:
    class Second:
        rank, size = 1, 2

    axis: Any = Second()
    tokens, beside = torch.zeros(1, 6, 4), torch.zeros(1, 9, 4)
    site = Site("trunk", "trunk", 0, (2, 3), per_prefix=(0, 1))
    with pytest.raises(ValueError, match="neither text nor image"):
        ContextSeam(axis, call_through)(site, lambda hidden, *args: hidden, tokens, tokens, beside)


def test_pictures_that_cannot_be_read_are_refused(pipe: Pipeline) -> None:
    one = picture(1, (64, 64))
    for wrong, message in (
        ({}, "this checkpoint edits a picture: give image="),
        ({"image": one, "strength": 0.5}, "strength= has no effect"),
        ({"image": one, "posterior": "sample"}, "posterior= has no effect"),
        ({"image": torch.zeros(16, 8, 8)}, r"a tensor of shape \(16, 8, 8\) is not a picture"),
        ({"image": [[one], [one]]}, "image has 2 entries for 1 prompt"),
    ):
        with pytest.raises(ValueError, match=message):
            pipe("darker", guidance=1, steps=2, **wrong)
    with pytest.raises(ValueError, match="read prompts alone, not QwenImageEdit"):
        pipe.encode("darker")
    with pytest.raises(ValueError, match="must not contain <.image_pad"):
        pipe("a <|image_pad|>", image=one, guidance=1, steps=2)
    with pytest.raises(ValueError, match="pictures of several proportions"):
        pipe(["a", "b"], image=[one, picture(1, (64, 128))], guidance=1, steps=2, height=64, width=64)


@pytest.mark.parametrize("size", [(70, 50), (28, 900), (20, 20)])
def test_patches_are_those_of_the_published_processor(size: tuple[int, int]) -> None:
    image = picture(3, size)
    settings = PatchSettings.from_dict(PUBLISHED_PROCESSOR)
    theirs = Qwen2VLImageProcessorPil(min_pixels=3136, max_pixels=12845056)(image, return_tensors="pt")
    ours, grid = settings.patches(torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255)
    torch.testing.assert_close(ours, theirs["pixel_values"], rtol=0, atol=1e-5)
    assert [1, *grid] == theirs["image_grid_thw"][0].tolist()


def test_positions_are_those_of_the_published_model(pipe: Pipeline) -> None:
    known = torch.tensor([False] * 3 + [True] * 6 + [False] * 2 + [True] * 4 + [False])
    grids = [(2, 3), (4, 1)]
    thw = torch.tensor([[1, 2 * rows, 2 * columns] for rows, columns in grids])
    theirs = pipe.family.text.encoder.get_rope_index(known[None].long(), known[None].int(), image_grid_thw=thw)[0]
    assert torch.equal(picture_positions(known, grids), theirs[:, 0].T)
