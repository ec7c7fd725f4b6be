"""Fields of published configs: used, without effect, or rejected by name; and the JSON files that hold them."""

import inspect
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from sadaflow import Pipeline
from sadaflow.loading.json_file import naming, read_object
from sadaflow.models import AutoencoderConfig, ControlNetConfig, FluxConfig, UNet, UNetConfig
from sadaflow.models.autoencoder.fields import TABLE as VAE
from sadaflow.models.controlnet.fields import TABLE as CONTROLNET
from sadaflow.models.flux.config import TABLE as FLUX
from sadaflow.models.unet.fields import TABLE as UNET
from support.checkpoints import stable_diffusion
from support.checkpoints_flux import flux
from support.published.networks import EMA
from support.published.real import real_root

REAL = real_root()
READERS: dict[str, tuple[Any, Callable[[dict[str, Any]], Any]]] = {
    "UNet2DConditionModel": (UNET, UNetConfig.from_dict),
    "AutoencoderKL": (VAE, AutoencoderConfig.from_dict),
    "ControlNetModel": (CONTROLNET, ControlNetConfig.from_dict),
    "FluxTransformer2DModel": (FLUX, FluxConfig.from_dict),
}
KINDS = pytest.mark.parametrize("kind", READERS)


def defaults(kind: str) -> dict[str, Any]:
    """Fields of a Diffusers class with their defaults, from its signature."""
    parameters = inspect.signature(getattr(diffusers, kind).__init__).parameters.values()
    return {one.name: one.default for one in parameters if one.name != "self"}


@KINDS
@pytest.mark.filterwarnings("error")
def test_defaults_are_those_of_diffusers(kind: str) -> None:
    table, read = READERS[kind]
    written = defaults(kind)
    assert set(written) <= {*table.kinds, *table.only, *table.ignored}
    found, expected = read({}), read(json.loads(json.dumps(written)))
    if kind != "AutoencoderKL":
        assert found == expected
        return
    # Checkpoints older than these two fields decode well in float16, and say nothing of a size.
    differing = {name for name in vars(found) if getattr(found, name) != getattr(expected, name)}
    assert differing == {"force_upcast", "sample_size"}


@KINDS
@pytest.mark.filterwarnings("error")
def test_left_over_fields_change_nothing(kind: str) -> None:
    _, read = READERS[kind]
    notes = {"_class_name": kind, "_diffusers_version": "0.2.2", "_name_or_path": "../x", "_anything": [1]}
    left = {**EMA, "collected_params": None, "quantization_config": None, "gradient_checkpointing": True}
    assert read({**notes, **left}) == read({})


@KINDS
def test_unknown_fields_without_a_value_are_noted_once(kind: str) -> None:
    _, read = READERS[kind]
    with pytest.warns(UserWarning, match=f"{kind} config: .*: later, other, more, name$") as caught:
        assert read({"later": None, "other": False, "more": [], "name": ""}) == read({})
    assert len(caught) == 1


@KINDS
def test_whole_numbers_may_have_a_point(kind: str) -> None:
    _, read = READERS[kind]

    def loose(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [loose(entry) for entry in value]
        return float(value) if type(value) is int else int(value) if value in (1.0, 0.0) else value

    written = {name: value for name, value in defaults(kind).items() if not isinstance(value, bool)}
    found, expected = read({name: loose(value) for name, value in written.items()}), read(written)
    assert found == expected and repr(found) == repr(expected)
    for wrong in (4.5, True, math.nan, math.inf, "4", 0, 2**21, [4], 10**400):
        with pytest.raises(ValueError, match=f"{kind} config: in_channels="):
            read({"in_channels": wrong})


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("UNet2DConditionModel", {"encoder_hid_dim_type": "ip_image_proj"}, "encoder_hid_dim_type='ip_image_proj'.*IP-Ada"),
    ("UNet2DConditionModel", {"quantization_config": {"load_in_4bit": True}}, "quantization_config=.*quantized"),
    ("UNet2DConditionModel", {"attention_type": "gated"}, "attention_type='gated'.*GLIGEN"),
    ("UNet2DConditionModel", {"num_class_embeds": 1000}, "num_class_embeds=1000.*upscalers"),
    ("UNet2DConditionModel", {"mid_block_type": None}, "mid_block_type=None is not supported"),
    ("UNet2DConditionModel", {"conv_in_kernel": True}, "conv_in_kernel=True is not supported"),
    ("UNet2DConditionModel", {"only_cross_attention": [True, False, False, False]}, "only_cross_attention="),
    ("UNet2DConditionModel", {"time_embedding_dim": 77}, "time_embedding_dim=77.*1280"),
    ("UNet2DConditionModel", {"norm_num_groups": None}, "norm_num_groups=None"),
    ("UNet2DConditionModel", {"later_field": 0.5}, "'later_field' .value 0.5. is unknown"),
    ("UNet2DConditionModel", {"_class_name": "UNetMotionModel"}, "UNetMotionModel"),
    ("AutoencoderKL", {"_class_name": "AutoencoderTiny"}, "AutoencoderTiny.*supported: AutoencoderKL"),
    ("AutoencoderKL", {"_class_name": "AsymmetricAutoencoderKL"}, "AsymmetricAutoencoderKL"),
    ("AutoencoderKL", {"latents_mean": [0.0] * 3}, "latents_mean has 3 entries for 4 channels"),
    ("AutoencoderKL", {"latents_mean": [0, 0, 0, 0], "latents_std": [1, 1, 1, 0]}, "latents_std has 0.0"),
    ("AutoencoderKL", {"scaling_factor": math.nan}, "scaling_factor=nan"),
    ("ControlNetModel", {"num_control_type": 6}, "num_control_type=6.*union"),
    ("ControlNetModel", {"time_cond_proj_dim": 256}, "time_cond_proj_dim=256"),
    ("FluxTransformer2DModel", {"method": "yarn"}, "method='yarn'.*UltraFlux"),
    ("FluxTransformer2DModel", {"patch_size": 2}, "patch_size=2"),
]


@pytest.mark.parametrize(("kind", "fields", "words"), REFUSED, ids=[f"{a}-{next(iter(b))}" for a, b, _ in REFUSED])
def test_what_changes_the_result_is_refused(kind: str, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        READERS[kind][1](fields)


def test_statistics_of_latents_are_read() -> None:
    config = AutoencoderConfig.from_dict({"latents_mean": [0, -1.5, 2, 3], "latents_std": [1, 2, 3, 4.5]})
    assert config.latents_mean == (0.0, -1.5, 2.0, 3.0) and config.latents_std == (1.0, 2.0, 3.0, 4.5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("fields")
    return {"sd": stable_diffusion(root / "sd", "sd15"), "flux": flux(root / "flux", "dev")}


@pytest.fixture
def sd(made: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made["sd"], tmp_path / "sd"))


def change(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def damage(folder: Path) -> None:
    """Whatever is refused after this was refused before weights were read."""
    for weights in folder.rglob("*.safetensors"):
        weights.write_bytes(b"damaged")


@pytest.mark.parametrize(
    ("channels", "words"),
    [(7, "upscaler"), (6, "do not belong together")],
)
def test_networks_that_read_more_than_latents(sd: Path, channels: int, words: str) -> None:
    change(sd / "unet/config.json", in_channels=channels)
    damage(sd)
    with pytest.raises(ValueError, match=f"{sd}/unet/config.json: in_channels={channels} .*{words}"):
        Pipeline.from_pretrained(sd)


def test_classes_and_channels_that_need_a_picture(sd: Path, made: dict[str, Path], tmp_path: Path) -> None:
    change(sd / "model_index.json", _class_name="StableDiffusionUpscalePipeline")
    with pytest.raises(ValueError, match=r"StableDiffusionUpscalePipeline \(an upscaler needs a small picture"):
        Pipeline.from_pretrained(sd)
    change(sd / "model_index.json", _class_name="StableDiffusionPipeline")
    change(sd / "unet/config.json", out_channels=8)
    with pytest.raises(ValueError, match="out_channels=8"):
        Pipeline.from_pretrained(sd)
    fill = Path(shutil.copytree(made["flux"], tmp_path / "fill"))
    change(fill / "transformer/config.json", in_channels=192, out_channels=64)
    damage(fill)
    with pytest.raises(ValueError, match=r"vae's latents are 16 wide, the transformer's in_channels / 4 is 48"):
        Pipeline.from_pretrained(fill)


def test_guidance_that_the_network_embeds(sd: Path) -> None:
    """time_cond_proj_dim, as of LCM_Dreamshaper_v7, against Diffusers."""
    torch.manual_seed(0)
    config = {**diffusers.UNet2DConditionModel.load_config(sd / "unet"), "time_cond_proj_dim": 33}
    theirs = diffusers.UNet2DConditionModel.from_config(config)
    with torch.no_grad():
        theirs.time_embedding.cond_proj.weight.mul_(5)
    theirs.save_pretrained(sd / "unet")
    pipe, reference = Pipeline.from_pretrained(sd), diffusers.StableDiffusionPipeline.from_pretrained(sd)
    reference.set_progress_bar_config(disable=True)
    noise, prompts = torch.randn(2, 4, 16, 16), ["a red apple", "b"]
    for guidance in (1.0, 8.5):
        call: dict[str, Any] = {"height": 32, "width": 32, "solver": "dpmpp2m", "output": "latent", "progress": False}
        ours = pipe(prompts, steps=4, guidance=guidance, noise=noise, **call).latents
        options = {"num_inference_steps": 4, "guidance_scale": guidance, "output_type": "latent"}
        expected = reference(prompts, height=32, width=32, latents=noise, **options).images
        assert (ours - expected).norm() < 1e-5 * expected.norm()
    with pytest.warns(UserWarning, match="negative_prompt has no effect"):
        pipe("a", steps=1, height=16, width=16, negative_prompt="b", output="latent", progress=False)
    with pytest.raises(ValueError, match="needs guidance="):
        UNet(UNetConfig.from_dict(config))(noise, 1.0, torch.randn(2, 3, 32))


def text(content: Any, **how: Any) -> bytes:
    return json.dumps(content, **how).encode()


def test_json_as_others_write_it(tmp_path: Path) -> None:
    file, content = tmp_path / "config.json", {"b": [1, 2.5], "a": {"é": None}, "low": -math.inf, "high": math.inf}
    for data in (
        text(content),
        b"\xef\xbb\xbf" + text(content, indent=4),
        text(content, sort_keys=True, ensure_ascii=False, indent="\t").replace(b"\n", b"\r\n") + b"\n\n",
    ):
        file.write_bytes(data)
        assert read_object(file) == content
    file.write_text('{"a": 1, "b": {"c": 1, "c": 2}, "a": 3}')
    with pytest.warns(UserWarning, match="several values for 'c', 'a'"):
        assert read_object(file) == {"a": 3, "b": {"c": 2}}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf \n", "empty"),
        (b"\n<!DOCTYPE html><html><head>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git-lfs pointer.*git lfs pull"),
        ('{"a": 1}'.encode("utf-16"), "UTF-16"),
        ('{"a": 1}'.encode("utf-16-le"), "UTF-16"),
        ('{"a": 1}'.encode("utf-32-be"), "UTF-32"),
        (b'{"a": "\xe9"}', "not UTF-8"),
        (b'{"a": 1,}', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"a":' * 100_000, "not valid JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not valid JSON"),
        (b"[1]", "holds a list"),
    ],
)
def test_files_that_are_no_json_object(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(ValueError, match=words) as caught:
        read_object(tmp_path / "config.json")
    assert str(tmp_path / "config.json") in str(caught.value)


@pytest.mark.parametrize("name", ["sd", "flux"])
def test_every_error_of_a_config_names_its_file(made: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(made[name], tmp_path / name))
    damage(folder)
    files = [file for file in folder.rglob("*config.json") if file.parent.name != "scheduler"]
    for file in files:
        plain, content = file.read_text(), read_object(file)
        for field in (name for name in content if not name.startswith("_")):
            file.write_text(json.dumps({**content, field: {"x": [math.nan]}}))
            with pytest.raises((ValueError, OSError)) as caught:
                Pipeline.from_pretrained(folder)
            assert str(file) in str(caught.value) or "truncated" in str(caught.value), (file, field)
        file.write_text(plain)
    with pytest.raises(ValueError, match="^x/config.json: wrong$"), naming("x/config.json"):
        raise ValueError("wrong")


@pytest.mark.skipif(REAL is None, reason="no published configs beside the repository")
@KINDS
@pytest.mark.filterwarnings("error")
def test_published_configs(kind: str) -> None:
    found = [read_object(path) for path in REAL.rglob("config.json")]
    configs = [READERS[kind][1](raw) for raw in found if raw.get("_class_name") == kind]
    assert len(configs) >= 3
