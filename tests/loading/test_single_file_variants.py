"""Single files in the layouts of other tools give the pipeline of the Hub's folder, to the bit."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel

from sadaflow import Pipeline
from sadaflow.loading.single_file.layout import SingleFile
from sadaflow.loading.single_file.schedulers import few_steps
from sadaflow.loading.single_file.text_encoder import load_open_clip
from sadaflow.loading.strict import Loader
from support.checkpoints_original import NETWORK, hub_text_names, original, text_to_open_clip
from support.single_files import Tensors, only, renamed, scaled, stripped, unscaled, variant, write

CALL: dict[str, Any] = {"steps": 2, "height": 32, "width": 16, "seed": [1, 2], "output": "latent", "progress": False}
PROMPTS = ["a red fox!", "the sea"]
CLIP, OPEN_CLIP, XL = "cond_stage_model.transformer.", "cond_stage_model.model.", "conditioner.embedders."


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    return {style: original(tmp_path_factory.mktemp(style), style) for style in ("sd15", "sd21", "sdxl", "refiner")}


@pytest.fixture(scope="module")
def latents(made: dict[str, tuple[Path, Path]]) -> dict[str, torch.Tensor]:
    return {style: Pipeline.from_pretrained(folder)(PROMPTS, **CALL).latents for style, (folder, _) in made.items()}


def leftovers(tensors: Tensors) -> Tensors:
    """What training and merging tools leave in published files."""
    ids, end = torch.arange(24)[None], "text_model.embeddings.position_ids"
    return {
        **tensors,
        **{f"{XL}{place}.{end}": ids for place in ("0.transformer", "0.model.transformer", "1.model.transformer")},
        f"{OPEN_CLIP}transformer.{end}": ids,
        "global_step": torch.tensor(470000),
        "embedding_manager.string_to_param_dict.*": torch.zeros(1, 64),
        "model_ema.decay": torch.tensor(0.9),
        "cond_stage_model.logit_scale": torch.tensor(4.6),
        "scale_factor": torch.tensor(0.18215),
    }


def linear_projection(tensors: Tensors) -> Tensors:
    name = f"{XL}1.model.text_projection"
    return {**{n: x for n, x in tensors.items() if n != name}, f"{name}.weight": tensors[name].T.contiguous()}


def hub_named_vae(folder: Path) -> Any:
    vae = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")

    def change(tensors: Tensors) -> Tensors:
        kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("first_stage_model.")}
        return {**kept, **{f"vae.{name}": tensor for name, tensor in vae.items()}}

    return change


def old_merge(tensors: Tensors) -> Tensors:
    """CLIP without "text_model." and with a part of its other half."""
    changed = renamed((f"{CLIP}text_model.", CLIP))(leftovers(tensors))
    return {**changed, f"{CLIP}vision_model.x.weight": torch.zeros(2)}


VARIANTS: dict[str, tuple[str, Any]] = {
    "sd15 old merge": ("sd15", old_merge),
    "sd15 sgm": ("sd15", renamed((CLIP, f"{XL}0.transformer."))),
    "sd15 all in one": ("sd15", renamed(("first_stage_model.", "vae."), (CLIP, "text_encoders.clip_l.transformer."))),
    "sd21 leftovers, sgm": ("sd21", lambda tensors: renamed((OPEN_CLIP, f"{XL}0.model."))(leftovers(tensors))),
    "sdxl leftovers, projection as a linear layer": ("sdxl", lambda tensors: linear_projection(leftovers(tensors))),
    "refiner": ("refiner", leftovers),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_names_of_other_tools(
    name: str, made: dict[str, tuple[Path, Path]], latents: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    style, change = VARIANTS[name]
    folder, file = made[style]
    prediction = "v_prediction" if style == "sd21" else None
    path = variant(file, tmp_path / "file.safetensors", change)
    pipe = Pipeline.from_single_file(path, tokenizer=folder, prediction=prediction)
    assert torch.equal(pipe(PROMPTS, **CALL).latents, latents[style])


@pytest.mark.parametrize("style", ["sd15", "sd21", "sdxl", "refiner"])
def test_network_alone_takes_the_rest_and_the_scheduler_from_base(
    style: str, made: dict[str, tuple[Path, Path]], latents: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    folder, file = made[style]
    with_vae = variant(file, tmp_path / "with vae.safetensors", hub_named_vae(folder))
    files = {
        "sd15": [variant(file, tmp_path / "prefixed.safetensors", only(NETWORK))],
        "sd21": [variant(with_vae, tmp_path / "textless.safetensors", only(NETWORK, "vae."))],
        "sdxl": [folder / "unet" / "diffusion_pytorch_model.safetensors"],
        "refiner": [variant(file, tmp_path / "bare.safetensors", stripped(NETWORK))],
    }
    for path in files[style]:
        with pytest.raises(ValueError, match="holds no (autoencoder|text encoder).*base="):
            Pipeline.from_single_file(path, tokenizer=folder, prediction="epsilon")
        pipe = Pipeline.from_single_file(path, base=folder)
        assert torch.equal(pipe(PROMPTS, **CALL).latents, latents[style]), path


@pytest.mark.parametrize(
    ("layers", "used", "whole"), [(24, 23, True), (24, 23, False), (23, 23, False), (22, 22, False)]
)
def test_layers_of_sd2(layers: int, used: int, whole: bool, tmp_path: Path) -> None:
    """The penultimate output of 24 layers, and the last of 23, which are the Hub's encoder converted back."""
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=40, hidden_size=64, intermediate_size=32, num_hidden_layers=layers, num_attention_heads=1,
        hidden_act="gelu", max_position_embeddings=9, eos_token_id=2,
    )  # fmt: skip
    theirs = CLIPTextModel(config).eval()
    tensors = text_to_open_clip(hub_text_names(theirs.state_dict()), layers)
    if whole:
        tensors["text_projection"] = torch.zeros(64, 64)
    path = write(tmp_path / "file.safetensors", tensors)
    loader = Loader(torch.float32, torch.device("cpu"))
    ours = load_open_clip(SingleFile(path).section(""), loader, projection=False)
    loader.fill()
    ids = torch.randint(0, 40, (2, 9))
    with torch.no_grad():
        states = theirs(ids, output_hidden_states=True).hidden_states[used]
        norm = next(module for name, module in theirs.named_modules() if name.endswith("final_layer_norm"))
        expected, found = norm(states), ours(ids).last_hidden_state
    assert ours.config.num_hidden_layers == used
    assert (found - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize(("suffix", "rows"), [("scale_weight", False), ("weight_scale", True)])
def test_fp8_weights_are_multiplied_by_their_scales(
    suffix: str, rows: bool, made: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    folder, file = made["sd15"]
    tensors = scaled(load_file(file), suffix, rows=rows)
    path = write(tmp_path / "scaled.safetensors", tensors)
    plain = write(tmp_path / "plain.safetensors", unscaled(tensors, suffix))
    ours, theirs = (Pipeline.from_single_file(each, tokenizer=folder) for each in (path, plain))
    state = theirs.backbone.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.backbone.state_dict().items())
    half = Pipeline.from_single_file(path, tokenizer=folder, dtype="bfloat16").backbone.state_dict()
    assert all(torch.equal(tensor, state[name].bfloat16()) for name, tensor in half.items())


def test_scales_that_do_not_fit_are_named(made: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    folder, file = made["sd15"]
    name = f"{NETWORK}time_embed.0.scale_weight"

    def refused(words: str, **change: torch.Tensor) -> None:
        tensors = {**scaled(load_file(file)), **{n.replace("__", "."): x for n, x in change.items()}}
        with pytest.raises(ValueError, match=words):
            Pipeline.from_single_file(write(tmp_path / "file.safetensors", tensors), tokenizer=folder)

    refused("time_embed.0.scale_weight is .3,. for a weight", **{name: torch.ones(3)})
    refused("time_embed.9.weight, which is missing", **{f"{NETWORK}time_embed.9.scale_weight": torch.ones(())})
    weight = torch.ones(128, 32, dtype=torch.int8)
    refused("holds I8 with a scale", **{f"{NETWORK}time_embed.0.weight": weight})


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.bfloat16])
def test_plain_fp8_and_bfloat16_are_the_stored_numbers(
    dtype: torch.dtype, made: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    folder, file = made["sd15"]
    stored = {name: tensor.to(dtype) if tensor.dim() == 2 else tensor for name, tensor in load_file(file).items()}
    path = write(tmp_path / "file.safetensors", stored)
    pipe = Pipeline.from_single_file(path, tokenizer=folder)
    linear = pipe.backbone.get_parameter("time_embedding.linear_1.weight")
    assert torch.equal(linear, stored[f"{NETWORK}time_embed.0.weight"].float())


@pytest.mark.parametrize(
    ("stem", "change", "metadata", "kind"),
    [
        ("sd_xl_turbo_1.0_fp16", {}, {}, "EulerAncestralDiscreteScheduler"),
        ("file", {"ztsnr": torch.zeros(0), "v_pred": torch.zeros(0)}, {}, "EulerDiscreteScheduler"),
    ],
)
def test_files_that_start_at_the_last_timestep(
    stem: str,
    change: Tensors,
    metadata: dict[str, str],
    kind: str,
    made: dict[str, tuple[Path, Path]],
    tmp_path: Path,
) -> None:
    """Turbo in one step starts at 999, where leading spacing gives 1; so does what was trained from pure noise."""
    folder, file = made["sdxl"]
    path = write(tmp_path / f"{stem}.safetensors", {**load_file(file), **change}, metadata)
    pipe = Pipeline.from_single_file(path, tokenizer=folder)
    assert pipe.scheduler_config["_class_name"] == kind
    assert [pipe.solver(steps=steps).nodes[0].timestep for steps in (1, 4)] == [999, 999]


@pytest.mark.parametrize(
    ("stem", "title", "kind"),
    [
        ("sd_xl_turbo_1.0_fp16", "", "turbo"),
        ("file", "Stable Diffusion XL Turbo", "turbo"),
        ("dreamshaperXL_v21TurboDPMSDE", "", "turbo"),
        ("sdxl_lightning_4step", "", "lightning"),
        ("turbocharged", "", None),
        ("sd_xl_base_1.0", "Stable Diffusion XL 1.0 Base", None),
    ],
)
def test_names_that_say_how_a_network_was_distilled(stem: str, title: str, kind: str | None) -> None:
    assert few_steps(stem, {"modelspec.title": title}) == kind


@pytest.mark.parametrize(
    ("style", "channels", "words"),
    [
        ("sd15", 9, r"inpainting checkpoint: .* image= and mask="),
        ("sdxl", 9, r"image= and mask="),
        ("sd15", 8, r"edits a picture \(InstructPix2Pix\): give image="),
        ("sd15", 5, "reads a depth map beside the prompt: give control="),
        ("sd21", 7, "cannot be sampled yet: .*upscaler"),
    ],
)
def test_files_that_read_a_picture_load_and_say_so(
    style: str, channels: int, words: str, made: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    folder, file = made[style]
    name = f"{NETWORK}input_blocks.0.0.weight"

    def widened(tensors: Tensors) -> Tensors:
        first = tensors[name]
        return {**tensors, name: torch.cat([first, torch.randn(len(first), channels - 4, 3, 3)], 1)}

    path = variant(file, tmp_path / "file.safetensors", widened)
    said = pytest.warns(UserWarning, match=words) if channels == 7 else nullcontext()
    with said:
        pipe = Pipeline.from_single_file(path, tokenizer=folder)
    assert pipe.backbone.config.in_channels == channels and pipe.prediction == "epsilon"
    with pytest.raises(ValueError, match=words):
        pipe(PROMPTS, **CALL)
    if channels == 7:
        return
    seen = {"image": torch.rand(3, 32, 16), **({"mask": torch.ones(1, 32, 16)} if channels == 9 else {})}
    seen |= {"control": torch.rand(32, 16)} if channels == 5 else {}
    assert torch.isfinite(pipe(PROMPTS, **CALL, **seen).latents).all()
