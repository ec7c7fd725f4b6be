"""FLUX.2 klein pipelines: latents and images of Diffusers on random weights, the shift, the autoencoder."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLFlux2, DiffusionPipeline, Flux2KleinPipeline, Flux2Transformer2DModel
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.families.flux2 import shift_mu
from sadaflow.models.flux2 import Flux2Autoencoder, Flux2AutoencoderConfig, Flux2Config, Flux2Transformer
from sadaflow.pipeline.inputs import initial_noise
from sadaflow.pipeline.inspection import inspect
from sadaflow.pipeline.output import Output
from support.accelerated import ACCELERATORS, STEPS, check_acceleration
from support.checkpoints_flux2 import PUBLISHED, PUBLISHED_VAE, flux2_dev, flux2_klein, plain
from support.flux import relative

PROMPTS = ["a red apple", "a grinning face on a very long wooden table"]
SIZE = (40, 24)
CALL = {"seed": [1, 2], "height": 32, "width": 24, "guidance": 1.5, "output": "latent", "max_sequence_length": 96}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flux2_klein(tmp_path_factory.mktemp("flux2") / "base")


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Pipeline:
    return Pipeline.from_pretrained(folder)


def run(pipeline: DiffusionPipeline, guidance: float, noise: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The loop's latents (B, C, h, w) and the images of Diffusers, whose negative prompt is always empty."""
    seen = []

    def watch(_: object, step: int, timestep: object, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(inputs["latents"])
        return inputs

    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        prompt=PROMPTS,
        guidance_scale=guidance,
        height=SIZE[0],
        width=SIZE[1],
        num_inference_steps=4,
        latents=noise,
        max_sequence_length=length,
        output_type="pt",
        callback_on_step_end=watch,
    ).images
    return seen[-1].mT.unflatten(2, noise.shape[2:]), torch.as_tensor(images)


@pytest.mark.parametrize(("distilled", "guidance"), [(True, 1.0), (False, 2.5)])
def test_latents_and_images_match(folder: Path, tmp_path: Path, distilled: bool, guidance: float) -> None:
    root = flux2_klein(tmp_path / "distilled", distilled=True) if distilled else folder
    noise = initial_noise((32, SIZE[0] // 4, SIZE[1] // 4), [3, 4])
    out = Pipeline.from_pretrained(root)(
        PROMPTS,
        guidance=guidance,
        height=SIZE[0],
        width=SIZE[1],
        steps=4,
        seed=[3, 4],
        max_sequence_length=128,
        output="tensor",
    )
    latents, images = run(Flux2KleinPipeline.from_pretrained(root), guidance, noise, 128)
    assert relative(out.latents, latents) < 1e-4
    assert relative(out.images, images) < 1e-4
    assert out.stats.nfe == [4.0, 4.0]


def test_latents_and_images_of_dev_match(tmp_path: Path) -> None:
    reference = flux2_dev(tmp_path / "dev")
    noise = initial_noise((32, SIZE[0] // 4, SIZE[1] // 4), [3, 4])
    out = Pipeline.from_pretrained(tmp_path / "dev")(
        PROMPTS,
        guidance=2.5,
        height=SIZE[0],
        width=SIZE[1],
        steps=4,
        seed=[3, 4],
        max_sequence_length=256,
        output="tensor",
    )
    latents, images = run(reference, 2.5, noise, 256)
    assert relative(out.latents, latents) < 1e-4
    assert relative(out.images, images) < 1e-4
    assert out.stats.nfe == [4.0, 4.0]
    found = inspect(tmp_path / "dev")
    assert (found.refused, found.notes, found.steps, found.guidance) == (None, (), 50, 4.0)


def test_full_size_parameters_have_the_reference_names_and_shapes() -> None:
    fields = {name: value for name, value in plain(PUBLISHED_VAE).items() if name != "force_upcast"}
    with torch.device("meta"):
        pairs = [
            (Flux2Transformer2DModel.from_config(PUBLISHED), Flux2Transformer(Flux2Config.from_dict(PUBLISHED))),
            (Flux2Transformer2DModel(), Flux2Transformer(Flux2Config())),
            (AutoencoderKLFlux2(**fields), Flux2Autoencoder(Flux2AutoencoderConfig.from_dict(PUBLISHED_VAE))),
        ]
    for pair in pairs:
        shapes = [{name: tuple(tensor.shape) for name, tensor in m.state_dict().items()} for m in pair]
        assert shapes[0] == shapes[1]
    assert 3.8e9 < sum(tensor.numel() for tensor in pairs[0][1].parameters()) < 3.9e9


@pytest.mark.parametrize(("tokens", "steps"), [(60, 4), (1024, 10), (4096, 50), (4096, 500), (8192, 4)])
def test_the_shift_follows_tokens_and_steps(tokens: int, steps: int) -> None:
    assert shift_mu(tokens, steps) == pytest.approx(compute_empirical_mu(tokens, steps), rel=1e-12)


def test_a_dev_transformer_embeds_its_guidance() -> None:
    fields = {"num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2}
    widths = {"in_channels": 8, "joint_attention_dim": 12, "axes_dims_rope": [4, 4, 4, 4]}
    torch.manual_seed(0)
    reference = Flux2Transformer2DModel(**fields, **widths, guidance_embeds=True).eval()
    ours = Flux2Transformer(Flux2Config.from_dict(dict(reference.config))).eval()
    ours.load_state_dict(reference.state_dict())
    x, context, guidance = torch.randn(2, 8, 6, 4), torch.randn(2, 5, 12), torch.tensor([2.0, 4.0])
    times = torch.tensor([310.0, 875.0])
    one = torch.arange(1)
    places = torch.cartesian_prod(one, torch.arange(6), torch.arange(4), one)
    with torch.no_grad():
        theirs = reference(
            x.flatten(2).mT,
            context,
            times / 1000,
            places,
            torch.cartesian_prod(one, one, one, torch.arange(5)),
            guidance,
        ).sample
        assert relative(ours(x, times, context=context, guidance=guidance).flatten(2).mT, theirs) < 1e-5
    with pytest.raises(ValueError, match="give guidance"):
        ours(x, times, context=context)


def test_pictures_are_encoded_in_tiles(pipe: Pipeline) -> None:
    vae, tile = pipe.vae, 8
    side = tile * vae.config.downscale
    picture = torch.rand(1, 3, 2 * side - side // 4, side) * 2 - 1  # two tiles, which share a quarter
    try:
        with torch.no_grad():
            first = vae.encode(picture[..., :side, :])[0]
            vae.tile = side
            tiled = vae.encode(picture)[0]
    finally:
        vae.tile = None
    own = tile - tile // 4
    assert tiled.shape[-2:] == (2 * tile - tile // 4, tile)
    torch.testing.assert_close(tiled[..., :own, :], first[..., :own, :], rtol=0, atol=1e-5)


def test_encoding_is_undone_by_decoding(pipe: Pipeline, folder: Path) -> None:
    reference = AutoencoderKLFlux2.from_pretrained(folder, subfolder="vae")
    images = torch.rand(1, 3, 32, 24) * 2 - 1
    with torch.no_grad():
        mean, logvar = pipe.vae.encode(images)
        posterior = reference.encode(images).latent_dist
        assert mean.shape == logvar.shape == (1, 32, 8, 6)
        assert relative(pipe.vae.decode(mean), reference.decode(posterior.mean).sample) < 1e-5
    deviation = (reference.bn.running_var + 1e-4).sqrt().view(1, 8, 4, 1, 1)
    patched = posterior.logvar.unflatten(2, (8, 2)).unflatten(4, (6, 2)).permute(0, 1, 3, 5, 2, 4).flatten(2, 3)
    assert relative(logvar.unflatten(1, (8, 4)), patched - 2 * deviation.log()) < 1e-5


@pytest.fixture(scope="module")
def unaccelerated(pipe: Pipeline) -> Output:
    return pipe(PROMPTS, steps=STEPS, **CALL)


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_accelerators_decide_per_sample(pipe: Pipeline, accelerator: str, unaccelerated: Output) -> None:
    check_acceleration(accelerator, pipe, PROMPTS, CALL, unaccelerated)


@pytest.mark.parametrize(("distilled", "steps", "guidance"), [(True, 4, 1.0), (False, 50, 4.0)])
def test_inspect_recommends_what_the_authors_do(tmp_path: Path, distilled: bool, steps: int, guidance: float) -> None:
    found = inspect(flux2_klein(tmp_path / "made", distilled=distilled))
    assert (found.refused, found.steps, found.guidance, found.solver) == (None, steps, guidance, "euler")


def test_a_distilled_checkpoint_has_no_negative_branch(tmp_path: Path) -> None:
    pipe = Pipeline.from_pretrained(flux2_klein(tmp_path / "made", distilled=True))
    call = {**CALL, "steps": 1, "guidance": 1.0}
    with pytest.warns(UserWarning, match="distilled to need none"):
        guided = pipe(PROMPTS, **{**call, "guidance": 3.0}, negative_prompt="blurry").latents
    assert torch.equal(guided, pipe(PROMPTS, **call).latents)


def test_an_encoder_with_too_few_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_hidden_layers=27"):
        Pipeline.from_pretrained(flux2_klein(tmp_path / "made", layers=27))


@pytest.mark.parametrize(
    ("part", "field", "value", "words"),
    [
        ("transformer", "eps", 1e-5, "eps"),
        ("transformer", "axes_dims_rope", [8, 8], "axes_dims_rope"),
        ("transformer", "guidance_embeds", True, "guidance_embeds"),
        ("vae", "patch_size", [4, 4], "patch_size"),
        ("vae", "scaling_factor", 0.3, "scaling_factor"),
        ("vae", "latent_channels", 4, "16 wide"),
    ],
)
def test_configs_that_cannot_be_honoured_are_refused(
    folder: Path, tmp_path: Path, part: str, field: str, value: object, words: str
) -> None:
    damaged = Path(shutil.copytree(folder, tmp_path / "damaged"))
    config = damaged / part / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), field: value}))
    with pytest.raises(ValueError, match=words):
        Pipeline.from_pretrained(damaged)
