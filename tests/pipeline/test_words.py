"""Prompts that are encoded once: the same pictures, files, other checkpoints' words, and the command."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sadaflow import Pipeline
from sadaflow.cli import main
from sadaflow.families import Request
from sadaflow.files.png import read_text
from support.checkpoints import stable_diffusion, stable_diffusion_xl

LONG = "a red apple beside two green pears"
CALL: dict[str, Any] = {"steps": 2, "guidance": 3.0, "output": "latent"}


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stable_diffusion(tmp_path_factory.mktemp("words") / "sd", "sd15")


@pytest.fixture(scope="module")
def pipe(sd: Path) -> Pipeline:
    return Pipeline.from_pretrained(sd)


def test_words_give_the_pictures_of_their_prompts(pipe: Pipeline, tmp_path: Path) -> None:
    how = {"long_prompts": "chunks", "prompt_weights": True}
    prompts, negatives = [LONG, "a (cat:1.3)"], ["blurry", None]
    expected = pipe(prompts, negative_prompt=negatives, seed=[1, 2], **how, **CALL).latents
    words = pipe.encode(prompts, negatives, **how)  # type: ignore[arg-type]
    file = words.save(tmp_path / "w.safetensors")
    assert words.prompts == tuple(prompts) and len(words) == 2
    for given in (words, str(file), file):
        assert torch.equal(pipe(words=given, seed=[1, 2], **CALL).latents, expected)
    chosen = pipe("a (cat:1.3)", words=file, seed=2, **CALL).latents
    assert torch.allclose(chosen, expected[1:], atol=1e-4)
    assert torch.equal(pipe(words=words.rows([1]), seed=2, **CALL).latents, chosen)
    with pytest.raises(FileExistsError):
        words.save(file)


def test_pooled_states_and_zeros_are_kept(tmp_path: Path) -> None:
    pipe = Pipeline.from_pretrained(stable_diffusion_xl(tmp_path / "xl"))
    words = pipe.encode("a cat")
    assert words.negative is not None and not words.negative.states.any()
    file = words.save(tmp_path / "w.safetensors")
    assert torch.equal(pipe(words=file, **CALL).latents, pipe("a cat", **CALL).latents)


def test_words_of_other_encoders_are_refused(pipe: Pipeline, sd: Path, tmp_path: Path) -> None:
    file = pipe.encode("a cat").save(tmp_path / "w.safetensors")
    half = Pipeline.from_pretrained(sd, dtype="bfloat16")
    assert half(words=file, **CALL).latents.isfinite().all()
    streamed = Pipeline.from_pretrained(sd, offload="stream")
    assert torch.allclose(streamed(words=file, **CALL).latents, pipe("a cat", **CALL).latents, atol=1e-4)
    assert torch.allclose(streamed.encode("a cat").conditional.states, pipe.encode("a cat").conditional.states)
    with pytest.raises(ValueError, match=r"w.safetensors' were encoded by other text encoders"):
        Pipeline.from_pretrained(stable_diffusion(tmp_path / "other", "sd21"))(words=file, **CALL)
    with pytest.raises(ValueError, match="for StableDiffusion, 32 wide, and this checkpoint is StableDiffusionXL"):
        Pipeline.from_pretrained(stable_diffusion_xl(tmp_path / "xl"))(words=file, **CALL)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        ({"prompt": "a dog"}, "'a dog' is not among the words"),
        ({"negative_prompt": "x"}, "leave out negative_prompt="),
        ({"prompt_embeds": torch.ones(1, 24, 32)}, "leave out prompt_embeds="),
        ({"prompt_weights": True}, "give prompt_weights= to encode"),
        ({"long_prompts": "chunks"}, "give long_prompts= to encode"),
        ({"seed": [1, 2]}, "2 seeds for 1 prompts"),
    ],
)
def test_words_with_what_they_hold_already_are_refused(pipe: Pipeline, call: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        pipe(words=pipe.encode("a cat"), **call)


def test_damaged_files_are_refused(pipe: Pipeline, tmp_path: Path) -> None:
    file = pipe.encode("a cat").save(tmp_path / "w.safetensors")
    tensors = load_file(file)
    with pytest.raises(ValueError, match="nowhere.safetensors': there is no such file"):
        Request(words=tmp_path / "nowhere.safetensors")  # type: ignore[arg-type]
    known = {"format": "sadaflow-words-1", "family": "StableDiffusion", "prompts": ["a cat"], "lengths": {}}
    nan = {**tensors, "conditional.states": tensors["conditional.states"] * torch.nan}
    for name, content, changes in (
        ("plain", tensors, None),
        ("format", tensors, {"format": "sadaflow-words-9"}),
        ("prompts", tensors, {"prompts": ["a", "b"]}),
        ("lengths", tensors, {"lengths": {"conditional": [25]}}),
        ("nan", nan, {}),
        ("empty", {"x": torch.ones(1)}, {}),
    ):
        path = tmp_path / f"{name}.safetensors"
        metadata = None if changes is None else {"sadaflow": json.dumps({**known, **changes})}
        save_file(content, path, metadata)
        with pytest.raises(ValueError, match=rf"{name}.safetensors' are not a file of Words.save"):
            Request(words=path)  # type: ignore[arg-type]
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(ValueError, match="not a file of Words.save"):
        Request(words=tmp_path / "text.safetensors")  # type: ignore[arg-type]


def test_the_command_reads_words_and_repeats(
    pipe: Pipeline, sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pipe.encode(["a cat", "a dog"], "blurry").save("w.safetensors")
    flags = ["--model", str(sd), "--steps", "2", "--accelerate", "none"]
    assert main(["generate", *flags, "--words", "w.safetensors", "--out", "x.png"]) == 0
    record = json.loads(read_text(Path("x-2.png"))["sadaflow"])
    assert record["prompt"] == "a dog" and record["options"]["words"] == "w.safetensors"
    assert main(["repeat", "x-2.png", "--model", str(sd), "--out", "again.png"]) == 0
    Path("w.safetensors").unlink()
    pipe.encode(["a cat", "a dog"], "ugly").save("w.safetensors")
    assert main(["repeat", "x-2.png", "--model", str(sd), "--out", "other.png"]) == 2
    assert "the words 'w.safetensors' is not the one that the record was made with" in capsys.readouterr().err
    Path("lines.txt").write_text("a cat\n")
    for more, match in (
        (["a fox", "--words", "w.safetensors"], "'a fox' is not among the words"),
        (["--words", "none.safetensors"], "there is no such file"),
        (["--prompts", "lines.txt", "--out", "run", "--words", "w.safetensors"], "--words hold the prompts"),
        (["a", "--long-prompts", "all"], "unknown --long-prompts 'all'; known: cut, chunks"),
        (["(a", "--prompt-weights"], "has no counterpart"),
        (["a", "--blend", "0.5", "0.4"], "not two fractions"),
    ):
        assert main(["generate", *flags, *more]) == 2
        assert match in capsys.readouterr().err
