"""Wan pipelines: latents and frames of Diffusers on random weights, accelerators, two transformers, single files."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanPipeline, WanTransformer3DModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from safetensors.torch import load_file, save_file

from sadaflow import SADA, Pipeline
from sadaflow.accelerators import SeaCache, TeaCache
from sadaflow.accelerators.caching.published import TEACACHE
from sadaflow.families.prompt_cleaning import cleaned
from sadaflow.models.wan import WanConfig, WanTransformer
from sadaflow.pipeline.inputs import initial_noise
from sadaflow.pipeline.inspection import inspect
from sadaflow.pipeline.output import Output
from support.accelerated import STEPS, check_acceleration
from support.checkpoints_wan import TRANSFORMER, TRANSFORMER_14B, TRANSFORMER_I2V, wan
from support.flux import relative

PROMPTS = ["a red apple &amp;  two", "a dog runs on a table!"]
NEGATIVES = ["blurry", "cut off"]
CALL: dict[str, Any] = {
    "seed": [1, 2], "height": 32, "width": 48, "num_frames": 9, "guidance": 2.0, "output": "latent",
    "max_sequence_length": 40,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wan(tmp_path_factory.mktemp("wan") / "made")


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Pipeline:
    return Pipeline.from_pretrained(folder)


def theirs(folder: Path, output: str, frames: int, **further: Any) -> torch.Tensor:
    reference = WanPipeline.from_pretrained(folder)
    reference.set_progress_bar_config(disable=True)
    noise = initial_noise((16, (frames - 1) // 4 + 1, 4, 6), [3, 4])
    how = {"height": 32, "width": 48, "num_frames": frames, "num_inference_steps": 4, "max_sequence_length": 40}
    made = reference(PROMPTS, negative_prompt=NEGATIVES, latents=noise, output_type=output, **how, **further)
    return torch.as_tensor(made.frames)


@pytest.mark.parametrize(("frames", "guidance"), [(1, 1.0), (5, 4.0), (9, 3.0)])
def test_latents_and_frames_match(folder: Path, pipe: Pipeline, frames: int, guidance: float) -> None:
    call = {**CALL, "seed": [3, 4], "num_frames": frames, "guidance": guidance, "steps": 4, "output": "tensor"}
    out = pipe(PROMPTS, negative_prompt=NEGATIVES, **call)
    assert out.latents.shape == (2, 16, (frames - 1) // 4 + 1, 4, 6)
    assert out.videos.shape == (2, frames, 3, 32, 48) and out.video is not None and out.fps == 16
    assert relative(out.latents, theirs(folder, "latent", frames, guidance_scale=guidance)) < 1e-4
    assert relative(out.videos, theirs(folder, "pt", frames, guidance_scale=guidance)) < 1e-4
    assert out.stats.nfe == [4.0, 4.0]


@pytest.mark.parametrize(
    ("config", "billions"), [(TRANSFORMER, 1.42), (TRANSFORMER_14B, 14.29), (TRANSFORMER_I2V, 16.39)]
)
def test_full_size_parameters_have_the_reference_names_and_shapes(config: dict[str, Any], billions: float) -> None:
    with torch.device("meta"):
        reference = WanTransformer3DModel.from_config(config)
        ours = WanTransformer(WanConfig.from_dict(config))
    shapes = [{name: tuple(tensor.shape) for name, tensor in m.state_dict().items()} for m in (reference, ours)]
    assert shapes[0] == shapes[1]
    assert sum(tensor.numel() for tensor in ours.parameters()) / 1e9 == pytest.approx(billions, abs=0.01)


def test_a_network_that_reads_an_image_matches() -> None:
    torch.manual_seed(2)
    small = {"num_attention_heads": 2, "attention_head_dim": 24, "num_layers": 2, "ffn_dim": 64, "text_dim": 32}
    config = {**TRANSFORMER_I2V, **small, "image_dim": 20, "added_kv_proj_dim": 48}
    reference = WanTransformer3DModel.from_config(config).eval()
    ours = WanTransformer(WanConfig.from_dict(config)).eval()
    ours.load_state_dict(reference.state_dict())
    x, context, image = torch.randn(2, 36, 3, 6, 4), torch.randn(2, 512, 32), torch.randn(2, 257, 20)
    timestep = torch.tensor([900, 300])
    with torch.no_grad():
        expected = reference(x, timestep, context, image)[0]
        assert relative(ours(x, timestep, context, image), expected) < 1e-5
        with pytest.raises(ValueError, match="image_dim"):
            ours(x, timestep, context)


def test_prompts_are_cleaned_before_they_are_encoded(pipe: Pipeline) -> None:
    assert cleaned("  a &amp;lt; b\n\tc ") == "a < b c"
    call = {**CALL, "steps": 2, "seed": 1}
    assert relative(pipe("a  cat &amp; dog ", **call).latents, pipe("a cat & dog", **call).latents) == 0


@pytest.fixture(scope="module")
def unaccelerated(pipe: Pipeline) -> Output:
    return pipe(PROMPTS, steps=STEPS, **CALL)


@pytest.mark.parametrize("accelerator", ["sada", "auto", "teacache"])
def test_accelerators_decide_per_sample(pipe: Pipeline, accelerator: str, unaccelerated: Output) -> None:
    check_acceleration(accelerator, pipe, PROMPTS, CALL, unaccelerated)


def test_seacache_filters_time_as_well(pipe: Pipeline, unaccelerated: Output) -> None:
    call = {**CALL, "steps": STEPS, "accelerator": SeaCache(threshold=0.2, exponent=3.0)}
    fast = pipe(PROMPTS, **call)
    assert all(nfe < STEPS for nfe in fast.stats.nfe)
    assert 0 < relative(fast.latents, unaccelerated.latents) < 0.3
    assert relative(pipe(PROMPTS[1], **{**call, "seed": 2}).latents, fast.latents[1:]) < 1e-4


def test_tokens_are_pruned_over_space_and_time(pipe: Pipeline) -> None:
    never_stable = SADA(token_trunk=True, multistep_start=0.9, weights=(4.0, 0.0, 0.0), token_cell=2, token_limit=6)
    call = {**CALL, "steps": STEPS, "solver": "euler"}
    out = pipe(PROMPTS, **call, accelerator=never_stable, trace=True)
    assert out.trace is not None
    masks = [mask for mask in out.trace.tokens[0] if mask is not None]
    assert "tokens" in out.stats.modes[0] and masks[0].shape == (3, 2, 3)
    assert all(0 < int(mask.sum()) < mask.numel() for mask in masks)
    assert 0 < relative(out.latents, pipe(PROMPTS, **call).latents) < 0.3


def test_teacache_decides_as_published_for_wan(pipe: Pipeline) -> None:
    """The authors' rule, step by step: the relative change of the projected time embedding, after five full steps."""
    settings = TeaCache(0.08, "wan2.1-t2v-1.3b", indicator="time", first=5, last=0)
    out = pipe(PROMPTS[0], **{**CALL, "seed": 1, "steps": 30}, accelerator=settings)
    solver, network = pipe.solver("unipc", 30), pipe.backbone
    expected, total, before = [], 0.0, None
    for step, node in enumerate(solver.nodes):
        now = network.prepare_times(torch.tensor([[node.timestep]]), {"text": torch.zeros(1)})[0, 0, : 6 * 48]  # type: ignore[attr-defined]
        if step < 5:
            full = True
        else:
            change = float((now - before).abs().mean() / before.abs().mean())
            total += sum(
                c * change**power for c, power in zip(TEACACHE["wan2.1-t2v-1.3b"], (4, 3, 2, 1, 0), strict=True)
            )
            full = total >= 0.08
        total, before = 0.0 if full else total, now
        expected.append("full" if full else "cached")
    assert out.stats.modes[0] == expected and "cached" in expected


def test_the_second_transformer_takes_over_below_the_boundary(tmp_path: Path) -> None:
    folder = wan(tmp_path / "stages", stages=True)
    pipe = Pipeline.from_pretrained(folder)
    call = {**CALL, "seed": [3, 4], "num_frames": 5, "guidance": 4.0, "steps": 4}
    for late in (None, 2.0):
        out = pipe(PROMPTS, negative_prompt=NEGATIVES, **call, late_guidance=late)
        expected = theirs(folder, "latent", 5, guidance_scale=4.0, guidance_scale_2=late)
        assert relative(out.latents, expected) < 1e-4
    fast = pipe(PROMPTS, **{**call, "steps": STEPS}, accelerator="sada")
    assert all(nfe < STEPS for nfe in fast.stats.nfe)


def authors(name: str) -> str:
    """The authors' name of a tensor of the Hub's layout."""
    for pattern, new in (
        (r"condition_embedder\.text_embedder\.linear_([12])", lambda m: f"text_embedding.{2 * int(m[1]) - 2}"),
        (r"condition_embedder\.time_embedder\.linear_([12])", lambda m: f"time_embedding.{2 * int(m[1]) - 2}"),
        (r"condition_embedder\.time_proj", "time_projection.1"),
        (r"^scale_shift_table", "head.modulation"),
        (r"^proj_out", "head.head"),
        (r"(blocks\.\d+)\.scale_shift_table", r"\1.modulation"),
        (r"(blocks\.\d+)\.norm2", r"\1.norm3"),
        (r"\.ffn\.net\.0\.proj", ".ffn.0"),
        (r"\.ffn\.net\.2", ".ffn.2"),
        (r"\.attn1\.", ".self_attn."),
        (r"\.attn2\.", ".cross_attn."),
        (r"\.to_out\.0\.", ".o."),
        (r"\.to_([qkv])\.", r".\1."),
    ):
        name = re.sub(pattern, new, name)  # type: ignore[arg-type]
    return name


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_single_files_of_the_transformer_load_beside_a_base(
    folder: Path, pipe: Pipeline, tmp_path: Path, prefix: str
) -> None:
    hub = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    changed = {name: tensor * 1.01 for name, tensor in hub.items()}
    theirs = {prefix + authors(name): tensor for name, tensor in changed.items()}
    assert convert_wan_transformer_to_diffusers(dict(theirs)).keys() == hub.keys()
    save_file(theirs, tmp_path / "wan.safetensors")
    loaded = Pipeline.from_single_file(tmp_path / "wan.safetensors", base=folder)
    pipe.backbone.state_dict()  # type: ignore[attr-defined]
    state = loaded.backbone.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(state[name], tensor) for name, tensor in changed.items())


def test_half_precision_keeps_modulation_in_float32(folder: Path) -> None:
    pipe = Pipeline.from_pretrained(folder, dtype="bfloat16")
    wide = {name for name, tensor in pipe.backbone.named_parameters() if tensor.dtype is torch.float32}  # type: ignore[attr-defined]
    assert all(any(part in name for part in ("time_embedder", "scale_shift_table", "norm2")) for name in wide)
    assert len(wide) == 4 + 4 + 2 * 3  # of time, four tables, norms of three blocks
    assert pipe("a", **{**CALL, "seed": 1, "steps": 2}).latents.isfinite().all()


def test_what_does_not_fit_is_refused_by_name(pipe: Pipeline) -> None:
    with pytest.raises(ValueError, match=r"num_frames=8 .* use 5 or 9"):
        pipe("a", num_frames=8)
    with pytest.raises(ValueError, match=r"expected \(1, 16, T, h, w\)"):
        pipe("a", noise=torch.randn(1, 16, 4, 6))
    with pytest.raises(ValueError, match="of 2 latent frames makes 5 frames"):
        pipe("a", num_frames=9, noise=torch.randn(1, 16, 2, 4, 6))
    with pytest.raises(ValueError, match="late_guidance"):
        pipe("a", late_guidance=2.0)
    with pytest.raises(ValueError, match="num_frames=5 has no effect"):
        Pipeline.from_pretrained("tiny-sd")("a", num_frames=5)


@pytest.mark.parametrize(
    ("field", "value"), [("patch_size", [2, 2, 2]), ("qk_norm", None), ("pos_embed_seq_len", 514), ("novel", 1)]
)
def test_configs_that_cannot_be_honoured_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        WanConfig.from_dict({**TRANSFORMER, field: value})


def test_previews_and_inspection(folder: Path, pipe: Pipeline) -> None:
    assert pipe.preview(torch.randn(2, 16, 3, 4, 6)).shape == (2, 3, 3, 4, 6)
    with pytest.raises(ValueError, match="T, h, w"):
        pipe.preview(torch.randn(2, 16, 4, 6))
    found = inspect(folder)
    assert (found.refused, found.steps, found.guidance, found.solver) == (None, 50, 5.0, "unipc")
