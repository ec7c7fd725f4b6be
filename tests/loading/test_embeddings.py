"""Textual inversions in every published form: prompts encoded as in Diffusers, refusals, removal without a trace."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import save_file
from torch import Tensor

from sadaflow import Pipeline
from support.checkpoints_flux import flux
from support.checkpoints_original import original
from support.lora import QUERY, factors, snapshot

PROMPTS = ["a red <cat-toy>!", "<cat-toy>, the sea <CAT-TOY>", "the sea", "fox " * 60 + "<cat-toy> and more"]


def vectors(count: int, width: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(count * width))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return original(tmp_path_factory.mktemp("sd15"), "sd15")[0]


@pytest.fixture(scope="module")
def sd(folder: Path) -> Pipeline:
    return Pipeline.from_pretrained(folder)


def encoded(pipe: Any) -> Tensor:
    with pytest.warns(UserWarning, match="is cut to"):
        return pipe.family.text.encode(PROMPTS)



@pytest.mark.parametrize("count", [1, 3])
def test_prompts_are_encoded_as_in_diffusers(count: int, folder: Path, sd: Pipeline, tmp_path: Path) -> None:
    """Diffusers compares words with their case before it expands them, so the prompts are in lower case for it."""
    rows = vectors(count, 64)
    save_file({"<cat-toy>": rows if count > 1 else rows[0]}, tmp_path / "learned_embeds.safetensors")
    reference = StableDiffusionPipeline.from_pretrained(folder)
    reference.load_textual_inversion(tmp_path, weight_name="learned_embeds.safetensors")
    plain = encoded(sd)
    expected = reference.encode_prompt([prompt.lower() for prompt in PROMPTS], "cpu", 1, False)[0]
    handle = sd.load_embedding(tmp_path)
    found = encoded(sd)
    assert sd.embeddings == ("<cat-toy>",)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-6
    assert not torch.equal(found[0], plain[0])
    assert torch.equal(found[2], plain[2])
    sd.unload_embedding(handle)
    assert torch.equal(encoded(sd), plain)
    assert sd.embeddings == ()


@pytest.mark.parametrize("form", ["emb_params", "string_to_param.*", "string_to_param", "*", "clip_l"])
def test_each_form_of_one_encoder(form: str, sd: Pipeline, tmp_path: Path) -> None:
    rows = vectors(2, 64)
    save_file({"<cat-toy>": rows}, tmp_path / "diffusers.safetensors")
    sd.load_embedding(tmp_path / "diffusers.safetensors")
    expected = encoded(sd)
    sd.unload_embedding("<cat-toy>")
    save_file({form: rows}, tmp_path / "<cat-toy>.safetensors")
    for token in (None, "<cat-toy>"):
        sd.load_embedding(tmp_path / "<cat-toy>.safetensors", token)
        assert torch.equal(encoded(sd), expected)
        sd.unload_embedding("<cat-toy>")


def test_both_encoders_of_xl(tmp_path: Path) -> None:
    folder = original(tmp_path / "xl", "sdxl")[0]
    ours, reference = Pipeline.from_pretrained(folder), StableDiffusionXLPipeline.from_pretrained(folder)
    widths = [text.encoder.config.hidden_size for text in ours.family.texts]  # type: ignore[attr-defined]
    parts = {"clip_l": vectors(2, widths[0]), "clip_g": vectors(2, widths[1])}
    save_file(parts, tmp_path / "toy.safetensors")
    for part, suffix in (("clip_l", ""), ("clip_g", "_2")):
        reference.load_textual_inversion(
            parts[part],
            token="<toy>",
            text_encoder=getattr(reference, f"text_encoder{suffix}"),
            tokenizer=getattr(reference, f"tokenizer{suffix}"),
        )
    ours.load_embedding(tmp_path / "toy.safetensors", token="<toy>")
    prompts = ["a <toy> fox", "the sea"]
    expected = reference.encode_prompt(prompts, device="cpu", do_classifier_free_guidance=False)
    found = ours.encode(prompts).conditional
    assert found.pooled is not None
    assert float((found.states - expected[0]).abs().max() / expected[0].abs().max()) < 1e-6
    assert torch.equal(found.pooled[1], expected[2][1])


def test_the_pooled_state_is_that_of_the_end_token(tmp_path: Path) -> None:
    """Also with eos_token_id=2, as published configs say: transformers then takes the largest id for the end token."""
    folder = flux(tmp_path / "dev", "dev", num_layers=1, num_single_layers=1)
    pipe = Pipeline.from_pretrained(folder)
    clip = pipe.family.clip  # type: ignore[attr-defined]
    assert clip.encoder.config.eos_token_id == 2
    width = clip.encoder.config.hidden_size
    fox = clip.tokenizer("x", add_special_tokens=False)["input_ids"]
    rows = clip.encoder.get_input_embeddings().weight[fox].detach().clone()
    expected = clip.encode_pooled(["a x!"])
    save_file({"clip_l": rows, "t5": vectors(1, 32)}, tmp_path / "new.safetensors")
    assert rows.shape[1] == width
    pipe.load_embedding(tmp_path / "new.safetensors", token="<new>")
    assert torch.equal(clip.encode_pooled(["a <new>!"]), expected)
    before = pipe.family.t5.encode(["<new>"], 16)  # type: ignore[attr-defined]
    pipe.unload_embedding("<new>")
    assert not torch.equal(pipe.family.t5.encode(["<new>"], 16), before)  # type: ignore[attr-defined]


def test_an_adapter_brings_its_words_and_takes_them_along(sd: Pipeline, tmp_path: Path) -> None:
    up, down = factors(snapshot(sd)[f"unet.{QUERY}.weight"].shape, 1)
    tensors = {f"unet.{QUERY}.lora_A.weight": down, f"unet.{QUERY}.lora_B.weight": up}
    path = tmp_path / "pivotal.safetensors"
    bundle = {"bundle_emb.<a>.string_to_param.*": vectors(2, 64), "bundle_emb.<b>.clip_l": vectors(1, 64)}
    save_file({**tensors, **bundle}, path)
    lora = sd.load_lora(path)
    assert sd.embeddings == ("<a>", "<b>")
    with pytest.raises(ValueError, match="'<a>' came with the adapter 'pivotal.safetensors'"):
        sd.unload_embedding("<a>")
    with pytest.raises(ValueError, match="token '<a>' is loaded already"):
        sd.load_lora(path)
    sd.unload_lora(lora)
    assert sd.embeddings == ()
    before = snapshot(sd)
    for wrong, match in (
        ({"bundle_emb.<c>.clip_l_out": vectors(1, 64)}, "clip_l_out.*not a textual inversion of a known form"),
        ({"bundle_emb.<c>.clip_g": vectors(1, 64)}, "fit no text encoder"),
        ({"bundle_emb.<a>.clip_l": vectors(1, 64), "bundle_emb.<c>.clip_l": vectors(1, 8)}, "8 wide"),
    ):
        save_file({**tensors, **wrong}, path)
        with pytest.raises(ValueError, match=f"pivotal.safetensors.*{match}"):
            sd.load_lora(path)
    assert sd.embeddings == () and sd.adapters == {}
    assert all(torch.equal(tensor, before[name]) for name, tensor in snapshot(sd).items())


def test_what_is_not_a_textual_inversion_is_refused(sd: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for tensors, match in (
        ({"<t>": vectors(1, 48)}, r"48 wide and fit no text encoder of this pipeline \(widths: text_encoder 64\)"),
        ({"clip_l": vectors(1, 64), "clip_g": vectors(1, 80)}, "fit no text encoder"),
        ({"a": vectors(1, 64), "b": vectors(1, 64)}, "2 of 2 keys are not those of a textual inversion"),
        ({"<t>": torch.ones(2, dtype=torch.int32)}, "holds I32"),
        ({"<t>": torch.ones(2, 3, 64)}, r"shape \(2, 3, 64\)"),
        ({"<t>": vectors(1, 64) * torch.nan}, "NaN"),
        ({"two words": vectors(1, 64)}, "'two words' is not a word"),
        ({"!": vectors(1, 64)}, "already has the token '!'"),
    ):
        save_file(tensors, path)
        with pytest.raises(ValueError, match=match):
            sd.load_embedding(path)
    (tmp_path / "style.pt").write_bytes(pickle.dumps({"string_to_param": 1}))
    with pytest.raises(ValueError, match=r"style.pt.*pickles"):
        sd.load_embedding(tmp_path / "style.pt")
    with pytest.raises(ValueError, match="'<t>' is not loaded"):
        sd.unload_embedding("<t>")
    assert sd.embeddings == ()


def test_a_copy_keeps_the_words(sd: Pipeline, tmp_path: Path) -> None:
    save_file({"<cat-toy>": vectors(2, 64)}, tmp_path / "x.safetensors")
    sd.load_embedding(tmp_path / "x.safetensors")
    copies = [copy.deepcopy(sd), pickle.loads(pickle.dumps(sd))]
    expected = encoded(sd)
    sd.unload_embedding("<cat-toy>")
    assert all(torch.equal(encoded(one), expected) for one in copies)
