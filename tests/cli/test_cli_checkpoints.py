"""The command line on tiny checkpoints of every class: the outputs of a Pipeline, and errors of one line."""

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file

import sadaflow.cli.load
from sadaflow import Pipeline
from sadaflow.cli import main
from sadaflow.files.images import from_pil, read_image
from sadaflow.files.png import read_text
from sadaflow.files.wav import read_comment, write_wav
from sadaflow.loading.embedded import EMBEDDED
from support.checkpoints import controlnet, musicldm
from support.checkpoints_flux import flux
from support.checkpoints_original import original
from support.cli import error_of
from support.lora import QUERY, factors

QUICK = ["--steps", "3", "--accelerate", "none"]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of all kinds, ControlNets, a LoRA and a picture, in one folder."""
    root = tmp_path_factory.mktemp("shelf")
    folder, file = original(root / "original", "sd15")
    folder.rename(root / "sd15")
    file.rename(root / "sd15.safetensors")
    for seed in (5, 6):
        controlnet(root / f"net{seed}", root / "sd15", seed, conditioning_embedding_out_channels=(8, 16))
    vocoder = musicldm(root / "music") / "vocoder" / "model.safetensors"
    louder = {name: x * 1e5 if "conv_post" in name else x for name, x in load_file(vocoder).items()}
    save_file(louder, vocoder, metadata={"format": "pt"})
    flux(root / "flux", "dev")
    weight = Pipeline.from_pretrained(root / "sd15").family.adaptable["unet"].get_parameter(f"{QUERY}.weight")
    up, down = factors(weight.shape, 1)
    tensors = {f"unet.{QUERY}.lora_A.weight": down, f"unet.{QUERY}.lora_B.weight": up}
    save_file(tensors, root / "lora.safetensors")
    strays = {name.replace("unet.", "unet.nowhere."): tensor for name, tensor in tensors.items()}
    save_file(strays, root / "stray.safetensors")
    save_file({"emb_params": torch.ones(2, 64)}, root / "toy.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "edges.png")
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return root


@pytest.fixture(autouse=True)
def here(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty current folder, with the checkpoints beside it."""
    (tmp_path / "shelf").symlink_to(shelf)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def run(*arguments: str) -> None:
    assert main([argument.replace("@", "../shelf/") for argument in arguments]) == 0


def same_picture(path: str, expected: Any) -> None:
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), np.asarray(expected))


@pytest.mark.parametrize("seconds", [None, "0.108"])
def test_sound_is_written_as_the_pipeline_makes_it(shelf: Path, seconds: str | None) -> None:
    run("generate", "piano", "drums", "--model", "@music", *(["--seconds", seconds] if seconds else []), *QUICK)
    call: dict[str, Any] = {"steps": 3, "solver": "dpmpp2m", "seconds": None if seconds is None else float(seconds)}
    made = Pipeline.from_pretrained(shelf / "music")(["piano", "drums"], **call)
    assert made.audio is not None and made.audio.abs().max() > 0.01
    for index in range(2):
        with wave.open(f"sadaflow-{index + 1}.wav") as sound:  # the standard library's own reader
            assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (1600, 1, 2)
            found = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
        np.testing.assert_allclose(found / 32767, made.audio[index].numpy(), atol=0.51 / 32767)
    recipe = json.loads(read_comment("sadaflow-2.wav"))
    assert (recipe["prompt"], recipe["model"], recipe["guidance"]) == ("drums", "music", 2.0)
    assert recipe["options"] == ({} if seconds is None else {"seconds": 0.108})


def test_sound_is_compared_by_its_spectrogram(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("compare", "piano", "--model", "@music", "--seconds", "0.16", "--steps", "8", "--accelerate", "uniform")
    pipe = Pipeline.from_pretrained(shelf / "music")
    call: dict[str, Any] = {"steps": 8, "solver": "dpmpp2m", "seconds": 0.16, "output": "tensor"}
    plain, fast = (pipe("piano", accelerator=name, **call).images.double() for name in (None, "uniform"))
    expected = 10 * torch.log10((plain.max() - plain.min()) ** 2 / (plain - fast).square().mean())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NFE", "seconds", "speed-up", "PSNR"]
    assert lines[5].split()[0] == "uniform" and float(lines[5].split()[-1]) == pytest.approx(float(expected), abs=0.01)
    with Image.open("compare.png") as picture:
        assert picture.width == 1100
    assert json.loads(read_text("compare.png")["sadaflow"])["options"] == {"seconds": 0.16}


def test_controlnets_get_their_pictures(shelf: Path) -> None:
    nets = ["--controlnet", "@net5", "--control", "@edges.png", "--controlnet", "@net6", "--control", "@edges.png"]
    numbers = ["--control-scale", "0.5", "--control-scale", "0.2", "--control-start", "0.4"]
    size = ["--height", "16", "--width", "32"]
    run("generate", "fox", "--model", "@sd15", *nets, *numbers, *size, *QUICK, "--out", "fox.png")
    pipe = Pipeline.from_pretrained(shelf / "sd15", controlnet=[shelf / "net5", shelf / "net6"])
    with Image.open(shelf / "edges.png") as edges:
        made = pipe(
            "fox", steps=3, solver="dpmpp2m", height=16, width=32, control=[edges, edges], control_scale=[0.5, 0.2],
            control_start=0.4,
        )  # fmt: skip
    same_picture("fox.png", made.images[0])
    options = json.loads(read_text("fox.png")["sadaflow"])["options"]
    assert options["control_scale"] == [0.5, 0.2] and options["controlnet"] == ["../shelf/net5", "../shelf/net6"]


@pytest.mark.parametrize("model", ["@sd15", "@sd15.safetensors"])
def test_single_file_with_lora_and_controlnet(model: str, shelf: Path) -> None:
    aids = ["--tokenizer", "@sd15"] if model.endswith("safetensors") else []
    extras = ["--lora", "@lora.safetensors", "--lora-scale", "0.6", "--controlnet", "@net5", "--control", "@edges.png"]
    flags = ["--solver", "pndm", "--height", "16", "--width", "16", "--out", "a.png"]
    run("generate", "fox", "--model", model, *aids, *extras, *flags, *QUICK)
    pipe = Pipeline.from_pretrained(shelf / "sd15", controlnet=shelf / "net5")
    call: dict[str, Any] = {"steps": 3, "solver": "pndm", "height": 16, "width": 16}
    call["control"] = read_image(shelf / "edges.png")
    without = pipe("fox", **call).images[0]
    pipe.load_lora(shelf / "lora.safetensors", 0.6)
    expected = pipe("fox", **call).images[0]
    same_picture("a.png", expected)
    assert not np.array_equal(np.asarray(without), np.asarray(expected))


def test_options_of_flux(shelf: Path) -> None:
    flags = ["--true-guidance", "2", "--max-sequence-length", "9", "--negative", "blurry", "--solver", "euler"]
    run("generate", "fox", "--model", "@flux", *flags, "--height", "16", "--width", "16", *QUICK, "--out", "a.png")
    made = Pipeline.from_pretrained(shelf / "flux")(
        "fox", steps=3, solver="euler", true_guidance=2, max_sequence_length=9, negative_prompt="blurry", height=16,
        width=16,
    )  # fmt: skip
    same_picture("a.png", made.images[0])


def test_what_a_checkpoint_recommends_is_taken(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = shelf / "flux" / "model_index.json"
    before = index.read_text()
    index.write_text(json.dumps({**json.loads(before), "_sadaflow": {"guidance": 4.5, "steps": 2, "solver": "heun"}}))
    try:
        run("generate", "x", "--model", "@flux", "--accelerate", "none", "--height", "16", "--width", "16")
    finally:
        index.write_text(before)
    recipe = json.loads(read_text("sadaflow.png")["sadaflow"])
    assert (recipe["guidance"], recipe["steps"], recipe["solver"]) == (4.5, 2, "heun")


NET = ["--controlnet", "@net5", "--control", "@edges.png"]
SINGLE = ["--model", "@sd15.safetensors"]


@pytest.mark.parametrize("command", ["generate", "compare"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--controlnet", "@net5", "--control", "gone.png"], ["gone.png"]),
        (["--controlnet", "@net5", "--control", "@broken.png"], ["broken.png", "cannot be read"]),
        (["--controlnet", "@net5"], ["1 --controlnet", "0 --control"]),
        (["--control", "@edges.png"], ["--control needs a --controlnet"]),
        (["--control-end", "0.5"], ["--control-end", "--controlnet"]),
        ([*NET, "--control-scale", "1", "--control-scale", "2"], ["2 --control-scale for 1 --controlnet"]),
        ([*NET, "--control-start", "0.9", "--control-end", "0.2"], ["0.9", "0.2"]),
        (["--seconds", "3"], ["--seconds 3", "pictures"]),
        (["--seconds", "long"], ["--seconds", "long"]),
        (["--lora-scale", "2"], ["--lora-scale", "--lora"]),
        (["--lora", "gone.safetensors"], ["gone.safetensors"]),
        (["--lora", "@lora.safetensors", "--lora-scale", "1", "--lora-scale", "2"], ["2 --lora-scale for 1 --lora"]),
        (["--embedding", "gone.safetensors"], ["gone.safetensors"]),
        (["--embedding", "@toy.safetensors", *["--embedding-token", "a"] * 2], ["2 --embedding-token for 1 --emb"]),
        (["--embedding-token", "a"], ["1 --embedding-token for 0 --embedding"]),
        (SINGLE, ["sd15.safetensors", "--tokenizer"]),
        ([*SINGLE, "--tokenizer", "@sd15", "--variant", "fp16"], ["--variant"]),
        (["--base", "@sd15"], ["--base", "single file"]),
        (["--prediction", "epsilon"], ["--prediction", "single file"]),
        (["--model", "tiny-sdd"], ["tiny-sdd", "tiny-sd"]),
        (["--out", "a.wav"], ["a.wav", ".png"]),
    ],
)
def test_refused_before_loading(
    command: str, arguments: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(sadaflow.cli.load, "Pipeline", None)
    message = error_of(capsys, command, "x", *(argument.replace("@", "../shelf/") for argument in arguments))
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "@music", "--out", "a.png"], ["a.png", ".wav"]),
        (["--model", "@music", "--out", "a.mp3"], ["a.mp3", ".wav"]),
        (["--model", "@music", "--seconds", "0.001"], ["--seconds 0.001"]),
        (["--model", "@music", "--seconds", "1e15"], ["not enough memory"]),
        (["--model", "@music", *NET], ["ControlNet"]),
        (["--model", "@sd15", "--lora", "@stray.safetensors"], ["2 of 2 keys", "another model"]),
        (["--model", "@sd15", "--true-guidance", "2"], ["--true-guidance 2.0", "StableDiffusion"]),
        (["--model", "@sd15", "--controlnet", "@music", "--control", "@edges.png"], ["music", "config.json"]),
        (["--model", "@stray.safetensors", "--tokenizer", "@sd15"], ["stray.safetensors", "known layout"]),
        (["--model", "@net5"], ["net5", "model_index.json"]),
    ],
)
def test_refused_before_sampling(arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    message = error_of(capsys, "generate", "x", *QUICK, *(one.replace("@", "../shelf/") for one in arguments))
    assert all(word in message for word in words), message


def test_pictures_are_read_as_they_are_meant() -> None:
    upright = Image.fromarray(np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    ImageOps.expand(upright.rotate(90, expand=True)).save("turned.png", exif=exif)
    assert np.array_equal(np.asarray(read_image("turned.png")), np.asarray(upright))
    depth = np.arange(0, 65536, 4096, dtype=np.uint16).reshape(4, 4)
    Image.fromarray(depth).save("depth.png")
    np.testing.assert_array_equal(from_pil(read_image("depth.png"), (4, 4))[1], (depth / 65535).astype(np.float32))


def test_wav_is_clipped_whole_and_kept() -> None:
    write_wav("new/a.wav", torch.tensor([-2.0, -1.0, 0.0, 0.5, 1.5]), 8000, "é: 1")
    with wave.open("new/a.wav") as sound:
        assert sound.getframerate() == 8000
        assert np.frombuffer(sound.readframes(9), "<i2").tolist() == [-32767, -32767, 0, 16384, 32767]
    content = Path("new/a.wav").read_bytes()
    assert read_comment("new/a.wav") == "é: 1" and int.from_bytes(content[4:8], "little") == len(content) - 8
    with pytest.raises(FileExistsError, match="a.wav"):
        write_wav("new/a.wav", torch.zeros(1), 8000)
    with pytest.raises(ValueError, match="must end in .wav"):
        write_wav("a.png", torch.zeros(1), 8000)
    with pytest.raises(FloatingPointError, match="not finite"):
        write_wav("b.wav", torch.tensor([torch.nan]), 8000)
    assert [path.name for path in Path.cwd().rglob("*.wav")] == ["a.wav"] == [p.name for p in Path("new").iterdir()]


def test_a_scheduler_in_place_of_the_models(tmp_path: Path) -> None:
    """A network that was distilled for few steps gets its own solver and steps; the file records what was used."""
    own = json.loads((EMBEDDED / "tiny-sd/scheduler/scheduler_config.json").read_text())
    config = {**own, "_class_name": "LCMScheduler"}
    (tmp_path / "lcm.json").write_text(json.dumps(config))
    out = tmp_path / "fox.png"
    assert main(["generate", "fox", "--scheduler", str(tmp_path / "lcm.json"), "--out", str(out)]) == 0
    recorded = json.loads(read_text(out)["sadaflow"])
    assert (recorded["solver"], recorded["steps"]) == ("lcm", 4)
    assert str(tmp_path / "lcm.json") in json.dumps(recorded)
    assert main(["generate", "fox", "--scheduler", str(tmp_path / "none.json"), "--out", str(tmp_path / "x.png")]) == 2
