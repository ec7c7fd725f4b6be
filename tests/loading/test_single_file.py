"""Single files of SD 1.x, 2.x, XL and Flux.1: the same components and images as from the Hub's layout."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from sadaflow import Pipeline
from sadaflow.loading.hub.locate import locate_file, locate_parts
from sadaflow.loading.hub.options import HubOptions
from sadaflow.loading.safetensors_file import Stored
from sadaflow.loading.single_file import autoencoder, unet
from sadaflow.loading.single_file.layout import Section
from sadaflow.loading.single_file.text_encoder import from_open_clip, split_in_proj
from sadaflow.models import Autoencoder, AutoencoderConfig, UNet, UNetConfig
from support.checkpoints_flux import flux
from support.checkpoints_original import hub_text_names, original, text_to_open_clip
from support.flux import original_names, to_original
from support.hub_server import serve

PROMPTS = ["a red fox!", "the sea"]
STYLES = ["sd15", "sd21", "sdxl"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    return {style: original(tmp_path_factory.mktemp(style), style) for style in STYLES}


def same_state(ours: torch.nn.Module, theirs: torch.nn.Module) -> bool:
    state = theirs.state_dict()
    return set(state) == set(ours.state_dict()) and all(torch.equal(x, state[n]) for n, x in ours.state_dict().items())


def text_encoders(pipe: Pipeline) -> list[Any]:
    family: Any = pipe.family
    return [text.encoder for text in (family.texts if hasattr(family, "texts") else [family.text])]


@pytest.mark.parametrize("style", STYLES)
def test_file_gives_the_components_and_latents_of_the_hub_layout(
    style: str, made: dict[str, tuple[Path, Path]]
) -> None:
    folder, file = made[style]
    hub = Pipeline.from_pretrained(folder)
    ours = Pipeline.from_single_file(file, tokenizer=folder, prediction="v_prediction" if style == "sd21" else None)
    assert ours.backbone.config == hub.backbone.config
    assert ours.vae.config.scaling_factor == hub.vae.config.scaling_factor
    assert same_state(ours.backbone, hub.backbone) and same_state(ours.vae, hub.vae)
    for mine, theirs in zip(text_encoders(ours), text_encoders(hub), strict=True):
        assert same_state(mine, theirs)
    assert ours.prediction == hub.prediction and ours.family.default_size == hub.family.default_size
    call: dict[str, Any] = {"steps": 3, "height": 32, "width": 16, "seed": [1, 2], "output": "tensor"}
    mine, theirs = ours(PROMPTS, **call), hub(PROMPTS, **call)
    assert torch.equal(mine.latents, theirs.latents) and torch.equal(mine.images, theirs.images)


def test_tokenizer_of_another_kind_is_padded_as_the_encoder_was_trained(made: dict[str, tuple[Path, Path]]) -> None:
    (first, _), (folder, file) = made["sd15"], made["sd21"]
    call: dict[str, Any] = {"steps": 1, "height": 16, "width": 16, "output": "latent"}
    ours = Pipeline.from_single_file(file, tokenizer=first, prediction="v_prediction")
    assert torch.equal(ours(PROMPTS, **call).latents, Pipeline.from_pretrained(folder)(PROMPTS, **call).latents)
    with pytest.raises(ValueError, match="end token"):
        Pipeline.from_single_file(made["sd15"][1], tokenizer=folder)


def test_open_clip_conversion_is_that_of_the_reference() -> None:
    config = CLIPTextConfig(
        vocab_size=40,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=1,
        projection_dim=24,
    )
    model = CLIPTextModelWithProjection(config)
    state = text_to_open_clip(model.state_dict(), 2)
    theirs = convert_open_clip_checkpoint(model, {f"p.{name}": tensor for name, tensor in state.items()}, "p.")
    convert = from_open_clip(2, projection=True)
    ours = {target: part for name, tensor in state.items() for target, part in convert(name, tensor).items()}
    assert set(ours) == set(theirs) == set(hub_text_names(model.state_dict()))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("shape", [(12, 4), (12,)])
def test_fused_text_projections_split_and_join(shape: tuple[int, ...]) -> None:
    fused = torch.randn(shape)
    parts = split_in_proj("layer", "weight", fused)
    assert list(parts) == [f"layer.self_attn.{name}_proj.weight" for name in "qkv"]
    assert torch.equal(torch.cat(list(parts.values())), fused)


def changed(file: Path, target: Path, change: dict[str, Tensor | None], metadata: dict[str, str] | None = None) -> Path:
    tensors = {name: tensor for name, tensor in {**load_file(file), **change}.items() if tensor is not None}
    save_file(tensors, target, metadata=metadata)
    return target


def test_what_the_weights_do_not_tell_is_asked_for_by_name(made: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    folder, file = made["sd21"]
    with pytest.raises(ValueError, match="prediction='v_prediction'.*prediction='epsilon'"):
        Pipeline.from_single_file(file, tokenizer=folder)
    with pytest.raises(ValueError, match="prediction='velocity'"):
        Pipeline.from_single_file(file, tokenizer=folder, prediction="velocity")
    with pytest.raises(ValueError, match="tokenizer=ID_OR_FOLDER"):
        Pipeline.from_single_file(file, prediction="epsilon")
    base = Pipeline.from_single_file(file, tokenizer=folder, prediction="epsilon")
    assert (base.prediction, base.family.default_size) == ("epsilon", (128, 128))
    noted = changed(file, tmp_path / "noted.safetensors", {}, {"modelspec.prediction_type": "v"})
    assert Pipeline.from_single_file(noted, tokenizer=folder).prediction == "v_prediction"
    xl_folder, xl = made["sdxl"]
    marked = changed(xl, tmp_path / "marked.safetensors", {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)})
    pipe = Pipeline.from_single_file(marked, tokenizer=xl_folder)
    assert pipe.prediction == "v_prediction" and pipe.scheduler_config["rescale_betas_zero_snr"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model.diffusion_model.out.2.bias": None}, ["1 missing", "conv_out.bias"]),
        ({"model.diffusion_model.adapter.weight": torch.zeros(1)}, ["1 unexpected", "diffusion_model.adapter.weight"]),
        (
            {"model.diffusion_model.out.0.bias": torch.zeros(3)},
            ["misshaped", "out.0.bias gives conv_norm_out.bias as (3,)"],
        ),
        ({"first_stage_model.quant_conv.bias": None}, ["1 missing", "quant_conv.bias", "first_stage_model."]),
        (
            {"cond_stage_model.transformer.text_model.final_layer_norm.bias": None},
            ["1 missing", "final_layer_norm.bias"],
        ),
        ({"cond_stage_model.transformer.text_model.extra": torch.zeros(1)}, ["1 unexpected", "extra"]),
        ({"model.diffusion_model.out.2.bias": torch.full((4,), torch.nan)}, ["out.2.bias", "NaN"]),
        ({"model.diffusion_model.out.2.bias": torch.zeros(4, dtype=torch.int32)}, ["out.2.bias holds I32"]),
        ({"control_model.zero": torch.zeros(1)}, ["1 unexpected", "control_model.zero"]),
    ],
)
def test_what_does_not_fit_is_named(
    change: dict[str, Tensor | None], words: list[str], made: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    folder, file = made["sd15"]
    with pytest.raises(ValueError) as caught:
        Pipeline.from_single_file(changed(file, tmp_path / "changed.safetensors", change), tokenizer=folder)
    assert all(word in str(caught.value) for word in words), caught.value


def test_other_files_are_refused_by_name(made: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    folder, _ = made["sd15"]
    save_file({"joint_blocks.0.x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="known layout.*joint_blocks.0.x"):
        Pipeline.from_single_file(tmp_path / "other.safetensors", tokenizer=folder)
    for name in ("owner/name", "../owner/name/file.safetensors", str(tmp_path / "absent.safetensors")):
        with pytest.raises(ValueError, match="owner/name/file.safetensors"):
            Pipeline.from_single_file(name, tokenizer=folder)


def test_flux_takes_what_the_file_lacks_from_a_base(tmp_path: Path) -> None:
    one_head = {"attention_head_dim": 128, "num_attention_heads": 1, "axes_dims_rope": (16, 56, 56)}
    folder = flux(tmp_path / "hub", "dev", num_layers=1, num_single_layers=1, **one_head)
    hub = Pipeline.from_pretrained(folder)
    tensors = to_original(hub.backbone.state_dict(), original_names(1, 1))
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, tmp_path / "bare.safetensors")
    with pytest.raises(ValueError, match="no autoencoder.*base="):
        Pipeline.from_single_file(tmp_path / "bare.safetensors", tokenizer=folder)
    call: dict[str, Any] = {"steps": 2, "height": 32, "width": 32, "max_sequence_length": 16, "output": "latent"}
    ours = Pipeline.from_single_file(tmp_path / "bare.safetensors", base=folder)
    assert torch.equal(ours(PROMPTS, **call).latents, hub(PROMPTS, **call).latents)


@pytest.mark.parametrize("how", [{"offload": "stream"}, {"quantize": "int8"}])
@pytest.mark.parametrize("style", ["sd15", "sd21"])
def test_single_files_stream_and_quantize_as_folders_do(
    style: str, how: dict[str, str], made: dict[str, tuple[Path, Path]]
) -> None:
    folder, file = made[style]
    prediction = {"prediction": "v_prediction"} if style == "sd21" else {}
    call: dict[str, Any] = {"steps": 2, "output": "latent", "height": 32, "width": 32}
    ours = Pipeline.from_single_file(file, tokenizer=folder, **prediction, **how)
    hub = Pipeline.from_pretrained(folder, scheduler=ours.scheduler_config, **how)
    assert torch.equal(ours(PROMPTS, **call).latents, hub(PROMPTS, **call).latents)


PUBLISHED: dict[str, dict[str, Any]] = {
    "1.5": {"cross_attention_dim": 768, "attention_head_dim": 8, "sample_size": 64},
    "2.1": {
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "sample_size": 96,
        "use_linear_projection": True,
    },
    "XL": {
        "cross_attention_dim": 2048,
        "attention_head_dim": [5, 10, 20],
        "sample_size": 128,
        "use_linear_projection": True,
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 2, 10],
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    "XL refiner": {
        "cross_attention_dim": 1280,
        "attention_head_dim": [6, 12, 24, 24],
        "sample_size": 128,
        "use_linear_projection": True,
        "block_out_channels": [384, 768, 1536, 1536],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": 4,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2560,
    },
}


@pytest.mark.parametrize("model", PUBLISHED)
def test_shapes_of_the_published_networks_tell_their_configs(model: str) -> None:
    config = UNetConfig.from_dict(PUBLISHED[model])
    with torch.device("meta"):
        network = UNet(config)
    state = network.state_dict()
    shapes = {name: tuple(state[hub].shape) for name, hub in unet.key_map(network).items()}
    stored = tuple(Stored(Path("file"), name, shape, "F16") for name, shape in shapes.items())
    added = {"XL": (1280, 6), "XL refiner": (1280, 5)}.get(model)
    told = UNetConfig.from_dict(unet.infer_config(Section(Path("file"), "", stored), added, config.sample_size))
    # The depth of levels without attention means nothing, and the shapes do not tell it.
    assert [d for d, has in zip(told.transformer_layers_per_block, told.cross_attention, strict=True) if has] == [
        d for d, has in zip(config.transformer_layers_per_block, config.cross_attention, strict=True) if has
    ]
    depths = config.transformer_layers_per_block
    assert told.transformer_layers_per_block[-1] == depths[-1]
    assert replace(told, transformer_layers_per_block=depths) == config


def test_flux_file_may_hold_everything(tmp_path: Path) -> None:
    one_head = {"attention_head_dim": 128, "num_attention_heads": 1, "axes_dims_rope": (16, 56, 56)}
    folder = flux(tmp_path / "hub", "dev", num_layers=1, num_single_layers=1, **one_head)
    hub = Pipeline.from_pretrained(folder)
    family: Any = hub.family
    tensors = {
        f"model.diffusion_model.{name}": tensor
        for name, tensor in to_original(hub.backbone.state_dict(), original_names(1, 1)).items()
    }
    config = AutoencoderConfig(
        latent_channels=16,
        block_out_channels=(32, 64),
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=0.3611,
        shift_factor=0.1159,
    )
    vae = Autoencoder(config)
    names = {hub_name: name for name, hub_name in autoencoder.key_map(vae).items()}
    tensors |= {f"vae.{names[name]}": tensor for name, tensor in vae.state_dict().items()}
    clip, t5 = family.clip.encoder.state_dict(), family.t5.encoder.state_dict()
    tensors |= {f"text_encoders.clip_l.transformer.{name}": tensor for name, tensor in hub_text_names(clip).items()}
    tensors |= {f"text_encoders.t5xxl.transformer.{name}": tensor for name, tensor in t5.items()}
    packed = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    save_file(packed, tmp_path / "all.safetensors")
    ours: Any = Pipeline.from_single_file(tmp_path / "all.safetensors", tokenizer=folder)
    assert same_state(ours.backbone, hub.backbone) and same_state(ours.vae, vae) and ours.vae.config == config
    assert same_state(ours.family.clip.encoder, family.clip.encoder)
    assert torch.equal(ours.family.t5.encode(PROMPTS, 16), family.t5.encode(PROMPTS, 16))
    assert ours.scheduler_config["use_dynamic_shifting"]


def test_files_come_from_the_hub_by_name(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    for name in ("models/one.safetensors", "other.safetensors", "tokenizer/vocab.json", "vae/config.json"):
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).write_bytes(name.encode())
    with serve(repo=repo) as server:
        options = HubOptions(cache_dir=tmp_path / "cache", endpoint=server.url)
        owner = next(iter(server.repos))
        assert locate_file(f"{owner}/models/one.safetensors", options).read_bytes() == b"models/one.safetensors"
        folder = locate_parts(owner, ("tokenizer",), options)
        assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
            "models/one.safetensors",
            "tokenizer/vocab.json",
        }
        with pytest.raises(FileNotFoundError, match="absent.safetensors"):
            locate_file(f"{owner}/absent.safetensors", options)
