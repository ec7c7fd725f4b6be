"""Published tokenizers: settings of other machines, old and new formats, ids beyond the encoder's vocabulary."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPTextModel, CLIPTokenizer, RobertaTokenizerFast, T5TokenizerFast

from sadaflow import Pipeline
from sadaflow.families.prompt_encoder import ClipText
from sadaflow.loading.checkpoint import Checkpoint
from sadaflow.loading.json_file import read_object
from sadaflow.loading.tokenizer_files import check_ids, load_tokenizer
from support.checkpoints import clip_tokenizer, musicldm, stable_diffusion
from support.checkpoints_original import original
from support.published.real import real_root
from support.published.text import END, PLAIN, SD14

PROMPTS = ["a red apple", "", "42 Pears & <|endoftext|> more", "é"]
REAL = real_root()
FLAGS = {"normalized": True, **PLAIN}


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def checkpoint(root: Path) -> Checkpoint:
    return Checkpoint(root, None, torch.float32, torch.device("cpu"))


def load(root: Path, kind: str = "CLIPTokenizer", **settings: Any) -> Any:
    return load_tokenizer(checkpoint(root), "tokenizer", kind, **settings)


def ids(tokenizer: Any) -> Any:
    return tokenizer(PROMPTS, padding="max_length", max_length=20, truncation=True)["input_ids"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkpoint whose folder tokenizer/ holds vocab.json, merges.txt and a tokenizer_config.json."""
    clip_tokenizer(tmp_path / "tokenizer", END)
    return tmp_path


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stable_diffusion(tmp_path_factory.mktemp("sd") / "sd", "sd15")


def change(root: Path, **settings: Any) -> None:
    path = root / "tokenizer/tokenizer_config.json"
    write(path, {**read_object(path), **settings})


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with the same tokens under other ids, which no checkpoint may reach."""
    folder = tmp_path_factory.mktemp("elsewhere")
    clip_tokenizer(folder / "t", END)
    vocabulary = json.loads((folder / "t/vocab.json").read_text())
    write(folder / "t/vocab.json", {word: len(vocabulary) - 1 - index for word, index in vocabulary.items()})
    CLIPTokenizer.from_pretrained(folder / "t").save_pretrained(folder / "saved")
    shutil.copytree(folder / "saved", folder / "t", dirs_exist_ok=True)
    shutil.copyfile(folder / "t/tokenizer.json", folder / "t/tokenizer.1.json")
    return folder / "t"


def test_settings_of_stable_diffusion_1(root: Path) -> None:
    expected = ids(CLIPTokenizer.from_pretrained(root / "tokenizer"))
    write(root / "tokenizer/tokenizer_config.json", SD14)
    tokenizer = load(root)
    assert ids(tokenizer) == expected and tokenizer.model_max_length == 24
    assert tokenizer.name_or_path == str(root / "tokenizer")


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
def test_no_setting_leads_to_another_file(root: Path, elsewhere: Path, file: str) -> None:
    expected = ids(load(root))
    folder, path = root / "tokenizer", root / "tokenizer" / file
    hostile: dict[str, Any] = {
        "added_tokens_file": str(elsewhere / "added_tokens.json"),
        "auto_map": {"AutoTokenizer": ["tokenization.Evil", None]},
        "chat_template": "{{ raise_exception('run') }}",
        "fast_tokenizer_files": [os.path.relpath(elsewhere / "tokenizer.1.json", folder)],
        "gguf_file": str(elsewhere / "tokenizer.json"),
        "init_inputs": [str(elsewhere / "vocab.json"), str(elsewhere / "merges.txt")],
        "merges": str(elsewhere / "merges.txt"),
        "merges_file": str(elsewhere / "merges.txt"),
        "name_or_path": "https://example.org/owner/name",
        "special_tokens_map_file": "../../special_tokens_map.json",
        "tokenizer_file": str(elsewhere / "tokenizer.json"),
        "tokenizer_config_file": str(elsewhere / "tokenizer_config.json"),
        "vocab": str(elsewhere / "vocab.json"),
        "vocab_file": str(elsewhere / "vocab.json"),
    }
    for chosen in (hostile, *({name: value} for name, value in hostile.items())):
        plain = read_object(path) if path.is_file() else {}
        write(path, {**plain, **chosen})
        before = {one.name: (one.stat().st_mtime_ns, one.read_bytes()) for one in folder.iterdir()}
        assert ids(load(root)) == expected, chosen
        assert before == {one.name: (one.stat().st_mtime_ns, one.read_bytes()) for one in folder.iterdir()}
        write(path, plain)
    assert ids(CLIPTokenizer.from_pretrained(elsewhere)) != expected


@pytest.mark.parametrize("form", ["vocab", "json", "both", "bare"])
@pytest.mark.parametrize("pad", [END, "!"])
def test_forms_of_a_folder(root: Path, form: str, pad: str) -> None:
    change(root, pad_token=pad)
    folder = root / "tokenizer"
    reference = CLIPTokenizer.from_pretrained(folder)
    if form != "vocab":
        reference.save_pretrained(root / "saved")
        shutil.copyfile(root / "saved/tokenizer.json", folder / "tokenizer.json")
    if form in ("json", "bare"):
        (folder / "vocab.json").unlink()
        (folder / "merges.txt").unlink()
    if form == "bare":
        (folder / "tokenizer_config.json").unlink()
    assert ids(load(root, **({"pad_token": pad} if form == "bare" else {}))) == ids(reference)


def test_special_tokens_map_counts_as_in_transformers(root: Path) -> None:
    """Stable Diffusion 2.1 pads with the end token by one file and with "!" by the other, which counts."""
    write(root / "tokenizer/tokenizer_config.json", SD14)
    end = {"content": END, **FLAGS}
    write(root / "tokenizer/special_tokens_map.json", {"eos_token": end, "pad_token": "!", "unk_token": end})
    reference = CLIPTokenizer.from_pretrained(root / "tokenizer")
    tokenizer = load(root)
    assert tokenizer.pad_token == reference.pad_token == "!"
    assert ids(tokenizer) == ids(reference)


def test_names_of_the_class_and_lengths(root: Path) -> None:
    expected = ids(load(root))
    for name in ("CLIPTokenizerFast", "PreTrainedTokenizerFast", None):
        change(root, tokenizer_class=name, add_prefix_space=None)
        assert ids(load(root)) == expected
    for longest in (1e30, 1000000000000000019884624838656, 77.0, None):
        change(root, model_max_length=longest)
        found = load(root).model_max_length
        assert type(found) is int and found >= 77


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tokenizer_class": "BertTokenizer"}, "tokenizer_class='BertTokenizer'"),
        ({"model_max_length": 7.5}, "model_max_length=7.5"),
        ({"model_max_length": True}, "model_max_length=True"),
        ({"model_max_length": 2}, "leaves no token"),
        ({"model_max_length": float("nan")}, "model_max_length=nan"),
        ({"bos_token": 5}, "bos_token"),
        ({"eos_token": None}, "transformers cannot read it"),
    ],
)
def test_wrong_settings_are_named(root: Path, settings: dict[str, Any], words: str) -> None:
    change(root, **settings)
    with pytest.raises(ValueError, match=words) as caught:
        load(root)
    assert str(root / "tokenizer") in str(caught.value)


def test_missing_files_and_tokens_are_named(root: Path) -> None:
    write(root / "tokenizer/special_tokens_map.json", {"pad_token": None})
    with pytest.raises(ValueError, match="pad_token is missing"):
        load(root)
    (root / "tokenizer/merges.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"vocab.json without merges.txt"):
        load(root)
    (root / "tokenizer/vocab.json").unlink()
    with pytest.raises(FileNotFoundError, match="no vocabulary"):
        load(root)
    (root / "tokenizer/spiece.model").write_bytes(b"\x0a\x0e")
    change(root, tokenizer_class="T5Tokenizer")
    with pytest.raises(ValueError, match="spiece.model|cannot read"):
        load(root, "T5TokenizerFast")


BEYOND: list[tuple[str, dict[str, Any], str]] = [
    ("added_tokens.json", {"<new>": 5000}, "<new>"),
    ("special_tokens_map.json", {"additional_special_tokens": ["<style>"]}, "<style>"),
    ("special_tokens_map.json", {"pad_token": "[PAD]"}, "[PAD]"),
    ("tokenizer_config.json", {**SD14, "image_token": "<image>"}, "<image>"),
    ("tokenizer_config.json", {**SD14, "added_tokens_decoder": {"900": {"content": "<x>", "special": True}}}, "<x>"),
]


@pytest.mark.parametrize(("file", "content", "word"), BEYOND, ids=[f"{a}-{c}" for a, _, c in BEYOND])
def test_tokens_that_the_encoder_cannot_embed(
    tmp_path: Path, sd: Path, file: str, content: dict[str, Any], word: str
) -> None:
    folder = Path(shutil.copytree(sd, tmp_path / "sd"))
    vocabulary = read_object(folder / "text_encoder/config.json")["vocab_size"]
    shutil.rmtree(folder / "tokenizer")
    clip_tokenizer(folder / "tokenizer", END)
    write(folder / "tokenizer" / file, content)
    for weights in folder.rglob("*.safetensors"):  # it is noticed before any weights are read
        weights.write_bytes(b"damaged")
    expected = f"{folder}/tokenizer: token {re.escape(repr(word))} has id {vocabulary}, .*vocab_size={vocabulary}"
    with pytest.raises(ValueError, match=expected):
        Pipeline.from_pretrained(folder)


def test_a_larger_vocabulary_of_the_encoder_is_usual(root: Path) -> None:
    tokenizer = load(root)
    for more in (0, 28):
        check_ids(tokenizer, len(tokenizer) + more, "encoder")
    with pytest.raises(ValueError, match=f"id {len(tokenizer) - 1}"):
        check_ids(tokenizer, len(tokenizer) - 1, "encoder")


def test_t5_as_published(tmp_path: Path) -> None:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    pieces += [(chr(code), -3.0) for code in range(33, 127)]
    pieces += [(f"<extra_id_{index}>", 0.0) for index in reversed(range(100))]
    T5TokenizerFast(vocab=pieces, extra_ids=100).save_pretrained(tmp_path / "tokenizer")
    reference = T5TokenizerFast.from_pretrained(tmp_path / "tokenizer")
    extra = {"extra_ids": 100, "additional_special_tokens": [f"<extra_id_{index}>" for index in range(100)]}
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    old = {"legacy": True, "sp_model_kwargs": {}, "tokenizer_class": "T5Tokenizer", "vocab_file": "/root/spiece.model"}
    write(tmp_path / "tokenizer/tokenizer_config.json", {**extra, **special, **old})
    write(tmp_path / "tokenizer/special_tokens_map.json", {**special, **extra})
    tokenizer = load(tmp_path, "T5TokenizerFast")
    assert ids(tokenizer) == ids(reference)
    check_ids(tokenizer, len(pieces), "encoder")


def test_roberta_as_published(tmp_path: Path) -> None:
    folder = musicldm(tmp_path / "music")
    reference = RobertaTokenizerFast.from_pretrained(folder / "tokenizer")
    change(folder, special_tokens_map_file="/root/.cache/special_tokens_map.json", vocab_file="/etc/passwd")
    assert ids(load(folder, "RobertaTokenizerFast")) == ids(reference)


def test_prompt_states_of_a_folder_as_published(tmp_path: Path, sd: Path) -> None:
    folder = Path(shutil.copytree(sd, tmp_path / "sd"))
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder")
    batch = tokenizer(PROMPTS, padding="max_length", max_length=24, truncation=True, return_tensors="pt")
    with torch.no_grad():
        expected = encoder(batch["input_ids"])[0]
    write(folder / "tokenizer/tokenizer_config.json", SD14)
    found = checkpoint(folder)
    text = ClipText.build(ClipText.prepare(found))
    found.fill()
    states = text.encode(PROMPTS)
    assert (states - expected).norm() < 1e-5 * expected.norm()


def test_a_tokenizer_beside_a_single_file(tmp_path: Path, elsewhere: Path) -> None:
    folder, file = original(tmp_path, "sd15")
    expected = Pipeline.from_single_file(file, tokenizer=folder).family.text.encode(PROMPTS)
    change(folder, vocab_file=str(elsewhere / "vocab.json"), tokenizer_file=str(elsewhere / "tokenizer.json"))
    change(folder, merges_file="/etc/passwd", special_tokens_map_file="./special_tokens_map.json")
    assert torch.equal(Pipeline.from_single_file(file, tokenizer=folder).family.text.encode(PROMPTS), expected)
    change(folder, added_tokens_decoder={"900": {"content": "<x>", "special": True}})
    with pytest.raises(ValueError, match="'<x>' has id"):
        Pipeline.from_single_file(file, tokenizer=folder)


@pytest.mark.skipif(REAL is None, reason="no published configs beside the repository")
def test_published_settings(root: Path) -> None:
    """Every published tokenizer_config.json and special_tokens_map.json of CLIP, beside a small vocabulary."""
    count = 0
    for path in REAL.rglob("tokenizer_config.json"):
        if read_object(path)["tokenizer_class"] != "CLIPTokenizer":
            continue
        settings = {**read_object(path), "model_max_length": 24}
        settings.pop("added_tokens_decoder", None)  # with the ids of the large vocabulary
        write(root / "tokenizer/tokenizer_config.json", settings)
        special = path.with_name("special_tokens_map.json")
        if special.is_file():
            shutil.copyfile(special, root / "tokenizer/special_tokens_map.json")
        tokenizer = load(root)
        check_ids(tokenizer, len(json.loads((root / "tokenizer/vocab.json").read_text())), str(path))
        count += 1
    assert count > 10
