"""Z-Image pipelines: latents and images of Diffusers on random weights, guidance, prompts of different lengths."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import ZImagePipeline, ZImageTransformer2DModel
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.accelerators.sada.token_cache import TokenCache
from sadaflow.families import Request
from sadaflow.models.z_image import ZImageConfig, ZImageTransformer
from sadaflow.pipeline.inputs import initial_noise
from sadaflow.pipeline.inspection import inspect
from sadaflow.pipeline.output import Output
from support.accelerated import ACCELERATORS, STEPS, check_acceleration
from support.checkpoints_z_image import PUBLISHED, z_image
from support.flux import relative

PROMPTS = ["a red apple", "a grinning face on a very long wooden table"]
SIZE = (40, 24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return z_image(tmp_path_factory.mktemp("z_image") / "base")


def theirs(folder: Path, guidance: float, output: str, noise: Tensor, steps: int = 4) -> Tensor:
    pipeline = ZImagePipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        list(PROMPTS),
        negative_prompt=["blurry", "a face that is out of focus and cut off at the side"],
        guidance_scale=guidance,
        height=SIZE[0],
        width=SIZE[1],
        num_inference_steps=steps,
        latents=noise,
        output_type=output,
    ).images


@pytest.mark.parametrize("guidance", [0.0, 2.5])
def test_latents_and_images_match(folder: Path, guidance: float) -> None:
    noise = initial_noise((16, SIZE[0] // 2, SIZE[1] // 2), [3, 4])
    out = Pipeline.from_pretrained(folder)(
        PROMPTS,
        negative_prompt=["blurry", "a face that is out of focus and cut off at the side"],
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


def test_full_size_parameters_have_the_reference_names_and_shapes() -> None:
    with torch.device("meta"):
        reference = ZImageTransformer2DModel.from_config(PUBLISHED)
        ours = ZImageTransformer(ZImageConfig.from_dict(PUBLISHED))
    shapes = [{name: tuple(tensor.shape) for name, tensor in m.state_dict().items()} for m in (reference, ours)]
    assert shapes[0] == shapes[1]
    assert 6.1e9 < sum(tensor.numel() for tensor in ours.parameters()) < 6.2e9


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Pipeline:
    return Pipeline.from_pretrained(folder)


CALL = {"seed": [1, 2], "height": 32, "width": 24, "guidance": 1.5, "output": "latent", "max_sequence_length": 96}


@pytest.fixture(scope="module")
def plain(pipe: Pipeline) -> Output:
    return pipe(PROMPTS, steps=STEPS, **CALL)


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_accelerators_decide_per_sample(pipe: Pipeline, accelerator: str, plain: Output) -> None:
    check_acceleration(accelerator, pipe, PROMPTS, CALL, plain)


def test_token_pruning_keeps_the_mask_of_padded_prompts(pipe: Pipeline) -> None:
    """With every token kept, what a pruned evaluation computes is the network's prediction."""
    backbone = pipe.family.backbone
    given = backbone.prepare(**pipe.denoiser(pipe.solver(None, 2), Request(prompt=PROMPTS)).conditional)
    assert "mask" in given
    x, cache, rows = torch.randn(2, 16, 12, 8), TokenCache(2, max_depth=0), [0, 1]
    time = backbone.prepare_times(torch.tensor([[500.0]]), given)[0]
    everything = torch.ones(2, 12, 8)
    with torch.no_grad():
        backbone.evaluate(x, time, given, cache.filling(rows))
        pruned = backbone.evaluate(x + 0.1, time, given, cache.pruning(rows, everything, 3, 100))
        assert relative(pruned, backbone.evaluate(x + 0.1, time, given)) < 1e-5


@pytest.mark.parametrize(("shift", "steps", "guidance"), [(3.0, 8, 0.0), (6.0, 50, 4.0)])
def test_inspect_recommends_what_the_authors_do(tmp_path: Path, shift: float, steps: int, guidance: float) -> None:
    found = inspect(z_image(tmp_path / "made", shift))
    assert (found.refused, found.steps, found.guidance, found.solver) == (None, steps, guidance, "euler")


@pytest.mark.slow
def test_a_compiled_network_draws_the_same(folder: Path, pipe: Pipeline) -> None:
    call = {**CALL, "steps": 2}
    plain = pipe(PROMPTS, **call).latents
    compiled = Pipeline.from_pretrained(folder).compile(backend="eager")
    assert relative(compiled(PROMPTS, **call).latents, plain) < 1e-5


@pytest.mark.parametrize(
    ("field", "value"),
    [("siglip_feat_dim", 1152), ("axes_dims", [8, 8]), ("all_patch_size", [1]), ("qk_norm", False), ("novel", 1)],
)
def test_configs_that_cannot_be_honoured_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        ZImageConfig.from_dict({**PUBLISHED, field: value})


def test_unfit_components_and_odd_sizes_are_refused(folder: Path, pipe: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="height=34.*multiple of 4"):
        pipe("a", height=34, width=32)
    with pytest.raises(ValueError, match="max_sequence_length=513"):
        pipe("a", height=32, width=32, max_sequence_length=513)
    damaged = Path(shutil.copytree(folder, tmp_path / "damaged"))
    config = damaged / "text_encoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_hidden_layers": 1}))
    with pytest.raises(ValueError, match="num_hidden_layers=1"):
        Pipeline.from_pretrained(damaged)
