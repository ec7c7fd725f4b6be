"""Flux.1: transformer and whole pipelines against Diffusers' on random weights, sites, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from sadaflow import SADA, Pipeline
from sadaflow.accelerators.sada.token_cache import TokenCache
from sadaflow.families import Flux
from sadaflow.models import Autoencoder, AutoencoderConfig, FluxConfig, FluxTransformer, Site
from sadaflow.pipeline.inputs import initial_noise
from support.checkpoints import stable_diffusion
from support.checkpoints_flux import FLUX, flux
from support.flux import packed

PROMPTS = ["a red apple", "grinning face!"]


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def backbone(guidance: bool = True) -> tuple[FluxTransformer2DModel, FluxTransformer]:
    torch.manual_seed(0)
    reference = FluxTransformer2DModel(**FLUX, guidance_embeds=guidance).eval()
    ours = FluxTransformer(FluxConfig.from_dict(dict(reference.config))).eval()
    ours.load_state_dict(reference.state_dict())
    return reference, ours


def conditioning(samples: int, guidance: bool = True) -> dict[str, Tensor]:
    torch.manual_seed(1)
    made = {"context": torch.randn(samples, 7, 32), "pooled": torch.randn(samples, 32)}
    return made | ({"guidance": torch.linspace(1.5, 3.5, samples)} if guidance else {})


@pytest.mark.parametrize("guidance", [True, False])
def test_transformer_gives_the_reference_prediction(guidance: bool) -> None:
    reference, ours = backbone(guidance)
    inputs = conditioning(2, guidance)
    x, timestep = torch.randn(2, 16, 12, 8), torch.tensor([987.3, 20.0])
    ids = FluxPipeline._prepare_latent_image_ids(2, 6, 4, "cpu", torch.float32)
    with torch.no_grad():
        theirs = reference(
            packed(x),
            inputs["context"],
            inputs["pooled"],
            timestep / 1000,
            ids,
            torch.zeros(7, 3),
            inputs.get("guidance"),
        ).sample
        assert relative(packed(ours(x, timestep, **inputs)), theirs) < 1e-5


@pytest.mark.parametrize("guidance", [True, False])
def test_full_size_parameters_have_the_reference_names_and_shapes(guidance: bool) -> None:
    with torch.device("meta"):
        reference = FluxTransformer2DModel(guidance_embeds=guidance)
        ours = FluxTransformer(FluxConfig.from_dict(dict(reference.config)))
    shapes = [{name: tuple(tensor.shape) for name, tensor in m.state_dict().items()} for m in (reference, ours)]
    assert shapes[0] == shapes[1]
    assert sum(tensor.numel() for tensor in ours.parameters()) > 11.8e9


def test_trunk_and_blocks_are_sites() -> None:
    _, ours = backbone()
    x, seen = torch.randn(1, 16, 8, 12), []

    def watch(site, fn, hidden, *args):  # type: ignore[no-untyped-def]
        seen.append((site, tuple(hidden.shape)))
        return fn(hidden, *args)

    with torch.no_grad():
        plain = ours(x, 500.0, **conditioning(1))
        assert torch.equal(ours(x, 500.0, **conditioning(1), seam=watch), plain)
    trunk, *inside = seen
    blocks, attentions = inside[::2], inside[1::2]
    assert trunk[0].probe is not None
    assert trunk[0]._replace(probe=None) == Site("trunk", "trunk", 0, (4, 6), per_token=(2,), per_prefix=(0,))
    assert trunk[1] == (1, 24, 32)
    assert {site.kind for site, _ in blocks} == {"block"}
    assert {(site.prefix, *shape) for site, shape in blocks} == {(7, 1, 31, 32)}
    names = [f"{kind}.{index}" for kind in ("transformer_blocks", "single_transformer_blocks") for index in (0, 1)]
    assert [site.name for site, _ in blocks] == names
    assert attentions == [(Site("attention", f"{name}.attn", 0, (4, 6), prefix=7), (1, 31, 2, 16)) for name in names]


def test_tokens_of_the_trunk_keep_their_own_positions() -> None:
    """A shuffled subset of the image tokens, their rotary rows gathered alike, gives what masking the others gives."""
    _, ours = backbone()
    x, inputs = torch.randn(1, 16, 8, 12), conditioning(1)
    kept = torch.tensor([17, 3, 4, 20, 9])
    outputs = {}

    def subset(site, fn, hidden, *args):  # type: ignore[no-untyped-def]
        if site.kind != "trunk":
            return fn(hidden, *args)
        text, embedding, rope = args
        outputs["in order"] = fn(hidden[:, kept.sort().values], text, embedding, rope[:, kept.sort().values])
        outputs["shuffled"] = fn(hidden[:, kept], text, embedding, rope[:, kept])
        outputs["moved"] = fn(hidden[:, kept], text, embedding, rope[:, :5])
        return fn(hidden, *args)

    with torch.no_grad():
        ours(x, 500.0, **inputs, seam=subset)
    assert relative(outputs["shuffled"][:, kept.argsort()], outputs["in order"]) < 1e-5
    assert relative(outputs["moved"], outputs["shuffled"]) > 1e-3


def test_token_cache_prunes_the_trunk() -> None:
    _, ours = backbone()
    x, inputs = torch.randn(2, 16, 8, 12), conditioning(2)
    cache, rows = TokenCache(3, max_depth=0), [0, 2]
    counts: list[int] = []

    def counting(seam):  # type: ignore[no-untyped-def]
        def count(site, fn, hidden, *args):  # type: ignore[no-untyped-def]
            if site.kind == "block":
                counts.append(hidden.shape[1] - site.prefix)
            return seam(site, fn, hidden, *args)

        return count

    everything, few = torch.ones(2, 8, 12), -torch.ones(2, 8, 12)
    with torch.no_grad():
        plain = ours(x, 500.0, **inputs)
        assert torch.equal(ours(x, 500.0, **inputs, seam=cache.filling(rows)), plain)
        later = ours(x + 0.1, 480.0, **inputs)
        whole = ours(x + 0.1, 480.0, **inputs, seam=cache.pruning(rows, everything, 3, 100))
        assert relative(whole, later) < 1e-5
        pruned = ours(x, 500.0, **inputs, seam=counting(cache.pruning(rows, few, 3, 100)))
    assert counts and max(counts) < 24
    assert 0 < relative(pruned, later) < relative(torch.zeros_like(later), later)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("patch_size", 2),
        ("no_such_field", 1),
        ("axes_dims_rope", (4, 6, 8)),
        ("axes_dims_rope", (8, 8)),
        ("in_channels", 63),
    ],
)
def test_transformer_refuses_by_name_what_it_cannot_honour(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        FluxConfig.from_dict({**FLUX, field: value})


def test_transformer_refuses_odd_sides_and_guidance_it_does_not_know() -> None:
    _, dev = backbone()
    with pytest.raises(ValueError, match="8x7"):
        dev(torch.randn(1, 16, 8, 7), 500.0, **conditioning(1))
    with pytest.raises(ValueError, match="give guidance"):
        dev(torch.randn(1, 16, 8, 8), 500.0, **conditioning(1, guidance=False))
    with pytest.raises(ValueError, match="leave guidance out"):
        backbone(guidance=False)[1](torch.randn(1, 16, 8, 8), 500.0, **conditioning(1))


@pytest.fixture(scope="module", params=["dev", "schnell"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flux(tmp_path_factory.mktemp("flux") / request.param, request.param)


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flux(tmp_path_factory.mktemp("flux") / "dev", "dev")


def reference_pipeline(folder: Path) -> FluxPipeline:
    pipeline = FluxPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("size", [(32, 32), (40, 24)])
@pytest.mark.parametrize("true_guidance", [1.0, 3.0])
def test_latents_and_images_match(folder: Path, size: tuple[int, int], true_guidance: float) -> None:
    noise = initial_noise((16, size[0] // 2, size[1] // 2), [3, 4])
    negative = "blurry" if true_guidance > 1 else None
    reference = reference_pipeline(folder)

    def theirs(output: str) -> Tensor:
        return reference(
            PROMPTS,
            negative_prompt=None if negative is None else [negative] * 2,
            true_cfg_scale=true_guidance,
            guidance_scale=2.5,
            height=size[0],
            width=size[1],
            num_inference_steps=10,
            latents=packed(noise),
            max_sequence_length=48,
            output_type=output,
        ).images

    out = Pipeline.from_pretrained(folder)(
        PROMPTS,
        negative_prompt=negative,
        true_guidance=true_guidance,
        guidance=2.5,
        height=size[0],
        width=size[1],
        steps=10,
        seed=[3, 4],
        max_sequence_length=48,
        output="tensor",
    )
    assert relative(packed(out.latents), theirs("latent")) < 1e-4
    assert relative(out.images, theirs("pt")) < 1e-4
    assert out.stats.nfe == [10.0, 10.0]


def test_defaults_are_those_of_the_reference(dev: Path) -> None:
    pipe = Pipeline.from_pretrained(dev)
    noise = initial_noise((16, 12, 12), [5])
    theirs = reference_pipeline(dev)(
        PROMPTS[0], height=24, width=24, num_inference_steps=4, latents=packed(noise), output_type="latent"
    ).images
    ours = pipe(PROMPTS[0], steps=4, noise=noise, output="latent").latents
    assert relative(packed(ours), theirs) < 1e-4
    assert pipe.family.default_size == (256, 256)


def test_default_size_is_that_of_the_autoencoder(dev: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(dev, tmp_path / "copy"))
    config = json.loads((root / "vae/config.json").read_text())
    for size, expected in ((64, (64, 64)), ([32, 48], (32, 48)), (None, (256, 256))):
        (root / "vae/config.json").write_text(json.dumps({**config, "sample_size": size}))
        assert Pipeline.from_pretrained(root).family.default_size == expected
    (root / "vae/config.json").write_text(json.dumps({**config, "sample_size": 30}))
    with pytest.raises(ValueError, match="sample_size is 30, not a multiple of 4"):
        Pipeline.from_pretrained(root)


def test_shift_follows_the_requested_size(dev: Path) -> None:
    pipe = Pipeline.from_pretrained(dev)
    small, large = (pipe.solver(None, 4, height=side, width=side).nodes[1].t for side in (32, 256))
    assert small < large == pipe.solver(None, 4).nodes[1].t


def test_sada_decides_per_sample(dev: Path) -> None:
    pipe = Pipeline.from_pretrained(dev)
    call = {"steps": 20, "seed": [1, 2], "height": 32, "width": 32, "max_sequence_length": 16, "output": "latent"}
    plain = pipe(PROMPTS, **call)
    fast = pipe(PROMPTS, accelerator=SADA(), **call)
    assert [len(modes) for modes in fast.stats.modes] == [20, 20]
    assert all(nfe < 20 for nfe in fast.stats.nfe)
    assert relative(fast.latents, plain.latents) < 0.2
    alone = pipe(PROMPTS[1], accelerator=SADA(), **{**call, "seed": 2})
    assert alone.stats.modes[0] == fast.stats.modes[1]


@pytest.mark.parametrize("solver", ["euler", "dpmpp2m", "heun"])
def test_solvers_agree_on_the_end_of_the_trajectory(dev: Path, solver: str) -> None:
    pipe = Pipeline.from_pretrained(dev)
    call = {"seed": 1, "height": 32, "width": 32, "max_sequence_length": 16, "output": "latent"}
    fine = pipe(PROMPTS[0], steps=60, **call).latents
    assert relative(pipe(PROMPTS[0], steps=20, solver=solver, **call).latents, fine) < 0.01


@pytest.mark.parametrize("accelerator", ["uniform", "auto"])
def test_skipping_in_log_snr_copes_with_pure_noise_at_the_start(dev: Path, accelerator: str) -> None:
    """Flow time starts at 1, where alpha is 0 and log-SNR infinite."""
    pipe = Pipeline.from_pretrained(dev)
    call = {"steps": 12, "seed": 1, "height": 32, "width": 32, "max_sequence_length": 16, "output": "latent"}
    fast = pipe(PROMPTS[0], accelerator=accelerator, **call)
    assert relative(fast.latents, pipe(PROMPTS[0], **call).latents) < 0.05
    assert fast.stats.nfe[0] < 12
    assert fast.stats.modes[0][:3] == ["full"] * 3


def test_arguments_are_refused_by_name(dev: Path) -> None:
    pipe = Pipeline.from_pretrained(dev)
    with pytest.raises(ValueError, match="height=34.*multiple of 4"):
        pipe("a", height=34)
    with pytest.raises(ValueError, match="max_sequence_length=513"):
        pipe("a", max_sequence_length=513, height=32, width=32)
    with pytest.raises(ValueError, match="divisible by 2"):
        pipe("a", noise=torch.randn(1, 16, 8, 7))
    with pytest.warns(UserWarning, match="true_guidance"):
        pipe("a", negative_prompt="blurry", steps=1, height=32, width=32, max_sequence_length=4, output="latent")
    with pytest.warns(UserWarning, match="cut to 4"):
        pipe("several", steps=1, height=32, width=32, max_sequence_length=4, output="latent")


def test_options_of_flux_are_refused_elsewhere(tmp_path: Path) -> None:
    pipe = Pipeline.from_pretrained(stable_diffusion(tmp_path / "sd15", "sd15"))
    for option in ({"true_guidance": 2.0}, {"max_sequence_length": 256}, {"crop": (0, 8)}, {"aesthetic_score": 6.0}):
        with pytest.raises(ValueError, match=f"{next(iter(option))}.*StableDiffusion"):
            pipe("a", **option)


def test_components_are_strict_and_must_fit(dev: Path, tmp_path: Path) -> None:
    family = Pipeline.from_pretrained(dev).family
    with pytest.raises(ValueError, match="latents are 4 wide"):
        Flux(
            family.backbone,
            Autoencoder(AutoencoderConfig(block_out_channels=(32,))),
            family.clip,
            family.t5,
            torch.float32,
        )
    damaged = Path(shutil.copytree(dev, tmp_path / "damaged"))
    path = damaged / "text_encoder_2/model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("wo.weight"))
    tensors.pop(name)
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"text_encoder_2.*1 missing \({name}"):
        Pipeline.from_pretrained(damaged)
