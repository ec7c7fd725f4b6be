"""Qwen-Image pipelines: latents and images of Diffusers on random weights, guidance, prompts of different lengths."""

from pathlib import Path

import pytest
import torch
from diffusers import QwenImagePipeline, QwenImageTransformer2DModel
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.families import Request
from sadaflow.families.encoding import encode_images
from sadaflow.models.qwen_image import QwenImageConfig, QwenImageTransformer
from sadaflow.pipeline.inputs import initial_noise
from sadaflow.pipeline.inspection import inspect
from sadaflow.pipeline.output import Output
from sadaflow.pipeline.tuning import tuning_samples
from support.accelerated import ACCELERATORS, STEPS, check_acceleration
from support.checkpoints_qwen_image import PUBLISHED, qwen_image
from support.flux import relative

PROMPTS = ["a red apple", "a grinning face on a very long wooden table"]
NEGATIVES = [" ", "blurry, and cut off at the side"]
SIZE = (64, 48)
CALL = {"seed": [1, 2], "height": 48, "width": 32, "guidance": 2.0, "negative_prompt": "blurry", "output": "latent"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen_image(tmp_path_factory.mktemp("qwen_image") / "made")


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Pipeline:
    return Pipeline.from_pretrained(folder)


def theirs(folder: Path, negatives: list[str] | None, output: str, noise: Tensor) -> Tensor:
    pipeline = QwenImagePipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    packed = QwenImagePipeline._pack_latents(noise[:, :, None], len(noise), *noise.shape[1:])
    images = pipeline(
        list(PROMPTS),
        negative_prompt=negatives,
        true_cfg_scale=2.5,
        height=SIZE[0],
        width=SIZE[1],
        num_inference_steps=4,
        latents=packed,
        output_type=output,
    ).images
    if output != "latent":
        return torch.as_tensor(images)
    return QwenImagePipeline._unpack_latents(images, *SIZE, 8)[:, :, 0]


@pytest.mark.parametrize("negatives", [None, NEGATIVES])
@pytest.mark.filterwarnings("ignore:guidance=2.5 has no effect")
def test_latents_and_images_match(folder: Path, pipe: Pipeline, negatives: list[str] | None) -> None:
    noise = initial_noise((16, SIZE[0] // 8, SIZE[1] // 8), [3, 4])
    call = {"height": SIZE[0], "width": SIZE[1], "steps": 4, "seed": [3, 4], "output": "tensor"}
    out = pipe(PROMPTS, negative_prompt=negatives, guidance=2.5, **call)
    assert relative(out.latents, theirs(folder, negatives, "latent", noise)) < 1e-4
    assert relative(out.images, theirs(folder, negatives, "pt", noise)) < 1e-4
    assert out.stats.nfe == [4.0, 4.0]
    alone = pipe(PROMPTS[0], negative_prompt=negatives and negatives[0], guidance=2.5, **{**call, "seed": 3})
    assert relative(alone.latents, out.latents[:1]) < 1e-5


def test_full_size_parameters_have_the_reference_names_and_shapes() -> None:
    with torch.device("meta"):
        reference = QwenImageTransformer2DModel.from_config(PUBLISHED)
        ours = QwenImageTransformer(QwenImageConfig.from_dict(PUBLISHED))
    shapes = [{name: tuple(tensor.shape) for name, tensor in m.state_dict().items()} for m in (reference, ours)]
    assert shapes[0] == shapes[1]
    assert 20.4e9 < sum(tensor.numel() for tensor in ours.parameters()) < 20.5e9


def test_the_guided_prediction_keeps_the_length_of_the_conditional_one(pipe: Pipeline) -> None:
    request = Request(prompt=PROMPTS, negative_prompt="", guidance=3.0, height=32, width=32)
    denoise = pipe.denoiser(pipe.solver(None, 2), request)
    with torch.no_grad():
        x = torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(1))
        guided, conditional = denoise.evaluate_branches(x, 0, [0, 1], lambda site, fn, *args: fn(*args))
    lengths = [((x - x0).unfold(2, 2, 2).unfold(3, 2, 2)).square().sum(dim=(1, 4, 5)) for x0 in (guided, conditional)]
    assert relative(lengths[0], lengths[1]) < 1e-5
    assert relative(guided, conditional) > 1e-3


@pytest.fixture(scope="module")
def plain(pipe: Pipeline) -> Output:
    return pipe(PROMPTS, steps=STEPS, **CALL)


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_accelerators_decide_per_sample(pipe: Pipeline, accelerator: str, plain: Output) -> None:
    check_acceleration(accelerator, pipe, PROMPTS, CALL, plain)


def test_inspect_recommends_what_the_authors_do(folder: Path) -> None:
    found = inspect(folder)
    assert (found.refused, found.steps, found.guidance, found.solver) == (None, 50, 4.0, "euler")


@pytest.mark.parametrize(
    ("field", "value"),
    [("use_layer3d_rope", True), ("axes_dims_rope", [8, 8]), ("patch_size", 1), ("out_channels", 8), ("novel", 1)],
)
def test_configs_that_cannot_be_honoured_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        QwenImageConfig.from_dict({**PUBLISHED, field: value})


def test_guidance_needs_a_negative_prompt_for_every_sample(pipe: Pipeline) -> None:
    size = {"height": 32, "width": 32, "steps": 2, "output": "latent"}
    with pytest.warns(UserWarning, match="guidance=4 has no effect without a negative prompt"):
        assert pipe("a", **size).stats.nfe == [2.0]
    with pytest.raises(ValueError, match="negative_prompt is None for some samples"):
        pipe(["a", "b"], negative_prompt=["c", None], **size)
    with pytest.raises(ValueError, match="multiple of 16"):
        pipe("a", height=40, width=32, guidance=1)


def test_words_are_what_their_prompts_are(pipe: Pipeline, tmp_path: Path) -> None:
    size = {"height": 32, "width": 32, "steps": 2, "output": "latent", "guidance": 3.0, "seed": [1, 2]}
    file = pipe.encode(PROMPTS, NEGATIVES).save(tmp_path / "w.safetensors")
    assert relative(pipe(words=file, **size).latents, pipe(PROMPTS, negative_prompt=NEGATIVES, **size).latents) < 1e-6
    plain = pipe.encode(PROMPTS)
    assert plain.negative is None
    with pytest.warns(UserWarning, match=r"give negative_prompt=' ' to encode\(\)"):
        assert pipe(words=plain, **size).stats.nfe == [2.0, 2.0]
    with pytest.raises(ValueError, match="negative_prompt is None for some samples"):
        pipe.encode(PROMPTS, ["blurry", None])


def test_what_is_measured_is_guided(pipe: Pipeline) -> None:
    tuning = tuning_samples(pipe, ["a"], 2, {"steps": 2, "height": 32, "width": 32}, len, "calibrate")
    denoise, _ = next(iter(tuning.batches(1)))
    assert denoise.inner.has_negative and tuning.guidance == 4.0


def test_a_picture_is_changed_and_repainted(pipe: Pipeline) -> None:
    call = {"guidance": 1, "steps": 4, "seed": 1, "output": "tensor"}
    image, mask = torch.rand(3, 32, 48), torch.zeros(1, 32, 48)
    mask[:, :16] = 1
    out = pipe("a", image=image, mask=mask, strength=0.5, **call)
    assert out.stats.nfe == [2.0]
    kept = encode_images(pipe.vae, 2 * image[None] - 1)
    torch.testing.assert_close(out.latents[:, :, 2:], kept[:, :, 2:], rtol=0, atol=1e-5)
    assert relative(out.latents[:, :, :2], kept[:, :, :2]) > 0.1


@pytest.mark.slow
def test_compiled_quantized_and_offloaded_networks_draw_the_same(folder: Path, pipe: Pipeline) -> None:
    call = {**CALL, "steps": 2}
    expected = pipe(PROMPTS, **call).latents
    assert relative(Pipeline.from_pretrained(folder).compile(backend="eager")(PROMPTS, **call).latents, expected) < 1e-5
    assert relative(Pipeline.from_pretrained(folder, offload="stream")(PROMPTS, **call).latents, expected) < 1e-6
    assert relative(Pipeline.from_pretrained(folder, quantize="int8")(PROMPTS, **call).latents, expected) < 0.1
