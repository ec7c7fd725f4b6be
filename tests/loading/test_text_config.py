"""Configs of text encoders: published forms load as transformers loads them, and no other field reaches it."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import CLIPConfig, CLIPModel, CLIPTextModel, T5EncoderModel

from sadaflow import Pipeline
from sadaflow.families.prompt_encoder import ClipText, T5Text
from sadaflow.loading.checkpoint import Checkpoint
from sadaflow.loading.json_file import read_object
from sadaflow.loading.text_config import encoder_fields
from sadaflow.loading.text_encoder import prepare_encoder
from sadaflow.loading.text_fields import CLAP, CLAP_AUDIO, CLAP_TEXT, COMMON, TABLES
from support.checkpoints import musicldm, stable_diffusion, stable_diffusion_xl
from support.checkpoints_flux import flux
from support.published.real import real_root
from support.published.text import FULL_DUMP

PROMPTS = ["a red apple", ""]
REAL = real_root()


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def checkpoint(root: Path) -> Checkpoint:
    return Checkpoint(root, None, torch.float32, torch.device("cpu"))


def clip_text(found: Checkpoint) -> ClipText:
    text = ClipText.build(ClipText.prepare(found))
    found.fill()
    return text


def t5_text(found: Checkpoint) -> T5Text:
    text = T5Text.build(T5Text.prepare(found))
    found.fill()
    return text


def load_encoder(found: Checkpoint, component: str, kind: str) -> Any:
    encoder = prepare_encoder(found, component, kind).build()
    found.fill()
    return encoder


def change(folder: Path, **fields: Any) -> None:
    write(folder / "config.json", {**read_object(folder / "config.json"), **fields})


def same(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return bool((ours - theirs).norm() < 1e-5 * theirs.norm())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("text")
    return {
        "sd": stable_diffusion(root / "sd", "sd15"),
        "xl": stable_diffusion_xl(root / "xl"),
        "flux": flux(root / "flux", "schnell"),
        "music": musicldm(root / "music"),
    }


@pytest.fixture
def sd(made: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made["sd"], tmp_path / "sd"))


def clip_states(folder: Path) -> torch.Tensor:
    """Hidden states by transformers of what lies in text_encoder/, before it is changed."""
    text = clip_text(checkpoint(folder))
    batch = text.tokenizer(PROMPTS, padding="max_length", max_length=24, truncation=True, return_tensors="pt")
    with torch.no_grad():
        return CLIPTextModel.from_pretrained(folder / "text_encoder")(batch["input_ids"])[0]


def test_fields_of_old_versions(sd: Path) -> None:
    expected = clip_states(sd)
    change(sd / "text_encoder", **FULL_DUMP, model_type="clip_text_model")
    assert same(clip_text(checkpoint(sd)).encode(PROMPTS), expected)


@pytest.mark.parametrize("form", ["text_config", "text_config_dict", "both"])
def test_configs_of_both_halves_of_clip(sd: Path, form: str) -> None:
    """The text encoder is found in a file of the whole CLIP model, as openai/clip-vit-large-patch14 is published."""
    plain = read_object(sd / "text_encoder/config.json")
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {name: plain[name] for name in ("vocab_size", "max_position_embeddings", "hidden_act", *small)}
    torch.manual_seed(0)
    CLIPModel(
        CLIPConfig(text_config=text, vision_config={**small, "image_size": 16, "patch_size": 8}, projection_dim=8)
    ).save_pretrained(sd / "text_encoder")
    expected = clip_states(sd)
    written = {"text_config": {**FULL_DUMP, **text, "model_type": "clip_text_model"}, "text_config_dict": text}
    if form == "both":
        written["text_config"] |= {"num_hidden_layers": 7}
    kept = {name: written[name] for name in written if form in (name, "both")}
    rest = {"architectures": ["CLIPModel"], "logit_scale_init_value": 2.6592, "projection_dim": 8, "vision_config": {}}
    write(sd / "text_encoder/config.json", {**rest, **kept, "model_type": "clip", "vision_config_dict": None})
    assert same(clip_text(checkpoint(sd)).encode(PROMPTS), expected)


@pytest.mark.parametrize(
    "fields",
    [
        {"_attn_implementation": "owner/kernel"},
        {"attn_implementation": "owner/kernel", "_attn_implementation_internal": "owner/kernel"},
        {"attn_implementation": "eager", "experts_implementation": "owner/kernel"},
        {"auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}},
        {"torch_dtype": "no_such_dtype"},
        {"dtype": "float64", "torch_dtype": None},
        {"output_hidden_states": "x", "output_attentions": [1], "return_dict": "no"},
        {"id2label": "x", "num_labels": -1, "problem_type": "other"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_fields_that_never_reach_transformers(sd: Path, fields: dict[str, Any]) -> None:
    expected = clip_states(sd)
    change(sd / "text_encoder", **fields)
    text = clip_text(checkpoint(sd))
    assert same(text.encode(PROMPTS), expected)
    assert text.encoder.config._attn_implementation == "sdpa"
    assert not any(hasattr(text.encoder.config, name) for name in ("auto_map", "_attn_implementation_autoset"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"eos_token_id": None}, "eos_token_id=None"),
        ({"hidden_act": "owner/kernel"}, "hidden_act='owner/kernel'"),
        ({"hidden_size": "wide"}, "hidden_size='wide'"),
        ({"num_attention_heads": 5}, "hidden_size=32 is not a multiple of num_attention_heads=5"),
        ({"vocab_size": True}, "vocab_size=True"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps=nan"),
        ({"is_decoder": True}, "is_decoder=True is not supported: a decoder masks"),
        ({"model_type": "bert"}, "model_type='bert'"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization_config=.*quantized"),
        ({"rope_scaling": {"type": "yarn"}}, "'rope_scaling'.*unknown"),
        ({"per_layer_config": {"0": {"hidden_size": 7}}}, "'per_layer_config'.*unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_fields_that_are_refused(sd: Path, fields: dict[str, Any], words: str) -> None:
    change(sd / "text_encoder", **fields)
    for weights in sd.rglob("*.safetensors"):  # before any weights are read
        weights.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=words) as caught:
        Pipeline.from_pretrained(sd)
    assert str(sd / "text_encoder/config.json") in str(caught.value)


def test_unknown_fields_without_a_value_are_noted(sd: Path) -> None:
    change(sd / "text_encoder", layer_types=None, use_alibi=False, rope_scaling={}, hidden_size=32.0)
    with pytest.warns(UserWarning, match="layer_types, use_alibi, rope_scaling"):
        config = prepare_encoder(checkpoint(sd), "text_encoder", "CLIPTextModel").config
    assert type(config.hidden_size) is int


def test_the_end_token_that_is_pooled(made: dict[str, Path], tmp_path: Path) -> None:
    for name, component in (("xl", "text_encoder_2"), ("flux", "text_encoder")):
        folder = Path(shutil.copytree(made[name], tmp_path / name))
        change(folder / component, eos_token_id=7)
        with pytest.raises(ValueError, match=r"eos_token_id=7 is not the end token of .* \(id \d+\)"):
            Pipeline.from_pretrained(folder)


@pytest.mark.parametrize(("act", "gated"), [("gelu_new", True), ("relu", False)])
def test_t5_as_published(tmp_path: Path, act: str, gated: bool) -> None:
    """T5 v1.1 (Flux.1) and the first T5, with the fields of their published configs."""
    folder, style = flux(tmp_path / "flux", "schnell"), "gated-gelu" if gated else "relu"
    plain = read_object(folder / "text_encoder_2/config.json")
    names = ("vocab_size", "d_model", "d_kv", "d_ff", "num_heads", "num_layers")
    config = transformers.T5Config(**{name: plain[name] for name in names}, feed_forward_proj=style)
    torch.manual_seed(1)
    T5EncoderModel(config).save_pretrained(folder / "text_encoder_2")
    published = {
        **{name: plain[name] for name in names},
        "architectures": ["T5EncoderModel"],
        "classifier_dropout": 0.0,
        "decoder_start_token_id": 0,
        "dense_act_fn": act,
        "dropout_rate": 0.1,
        "feed_forward_proj": style,
        "is_encoder_decoder": True,
        "is_gated_act": gated,
        "layer_norm_epsilon": 1e-06,
        "model_type": "t5",
        "n_positions": 512,
        "num_decoder_layers": 24,
        "output_past": True,
        "task_specific_params": {"summarization": {"early_stopping": True, "num_beams": 4}},
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
    }
    write(folder / "text_encoder_2/config.json", published)
    text = t5_text(checkpoint(folder))
    reference = T5EncoderModel.from_pretrained(folder / "text_encoder_2", dtype=torch.float32)
    batch = text.tokenizer(PROMPTS, padding="max_length", max_length=24, return_tensors="pt")
    with torch.no_grad():
        assert same(text.encode(PROMPTS, 24), reference(batch["input_ids"])[0])


def test_clap_and_vocoder_as_published(made: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made["music"], tmp_path / "music"))
    expected = {part: load_encoder(checkpoint(folder), *part).state_dict() for part in (("text_encoder", "ClapModel"),)}
    plain = read_object(folder / "text_encoder/config.json")
    dump = {**FULL_DUMP, "position_embedding_type": "absolute", "fusion_hidden_size": 768, "use_cache": True}
    text = {**dump, **plain["text_config"], "attn_implementation": "owner/kernel"}
    audio = {**dump, **plain["audio_config"], "unknown_to_all": 3, "_attn_implementation": "owner/kernel"}
    change(folder / "text_encoder", text_config=text, audio_config=audio, torch_dtype="float32", hidden_size=768)
    change(folder / "vocoder", model_type="hifigan", torch_dtype="float32", transformers_version="4.30.0.dev0")
    for part, state in expected.items():
        found = load_encoder(checkpoint(folder), *part).state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    assert load_encoder(checkpoint(folder), "vocoder", "SpeechT5HifiGan").config.normalize_before is False
    with pytest.raises(ValueError, match="vocoder/config.json.*normalize_before='no'"):
        change(folder / "vocoder", normalize_before="no")
        load_encoder(checkpoint(folder), "vocoder", "SpeechT5HifiGan")


def test_every_field_of_transformers_is_decided() -> None:
    classes = {
        **{getattr(transformers, kind).config_class: table for kind, table in TABLES.items()},
        transformers.ClapConfig: CLAP,
        transformers.ClapTextConfig: CLAP_TEXT,
    }
    for config, table in classes.items():
        names = {field.name for field in dataclasses.fields(config)}
        assert names <= {*table.kinds, *table.only, *table.ignored, *table.needs}, table.owner
        assert set(table.kinds) <= names | {"use_attention_mask", "dense_act_fn", "is_gated_act"}, table.owner
    assert set(CLAP_AUDIO.kinds) <= {field.name for field in dataclasses.fields(transformers.ClapAudioConfig)}
    assert all(COMMON.values())


@pytest.mark.skipif(REAL is None, reason="no published configs beside the repository")
@pytest.mark.parametrize("kind", ["CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel"])
@pytest.mark.filterwarnings("error")
def test_published_configs(kind: str) -> None:
    """Each published config gives the values that transformers reads from it."""
    config, count = getattr(transformers, kind).config_class, 0
    for path in REAL.rglob("config.json"):
        if kind not in read_object(path).get("architectures", ()):
            continue
        ours, theirs = config(**encoder_fields(read_object(path), kind)), config.from_pretrained(path.parent)
        for name in {*TABLES[kind].kinds} - {"use_attention_mask"}:
            assert getattr(ours, name) == getattr(theirs, name), (path, name)
        count += 1
    assert count >= 10
