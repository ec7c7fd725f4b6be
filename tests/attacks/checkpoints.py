"""Attacks by checkpoints: safetensors headers, JSON files, LoRAs."""

import random
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from sadaflow import Pipeline
from sadaflow.loading.safetensors_file import read_headers
from support.checkpoints import stable_diffusion
from support.hostile import header, mutated

from .outcome import WITHSTOOD, Attack, Attempt, Outcome, judged

UNET = "unet/diffusion_pytorch_model.safetensors"


def broken_bytes(content: bytes, draw: random.Random) -> bytes:
    """Bytes with some of them changed, cut, repeated or preceded by those of another kind of file."""
    found = bytearray(content)
    match draw.randrange(5):
        case 0:
            return bytes(found[: draw.randrange(len(found) + 1)])
        case 1:
            at = draw.randrange(len(found) + 1)
            return bytes(found[:at] + found[draw.randrange(len(found) + 1) :] + found[at:])
        case 2:
            start = draw.choice((b"PK\x03\x04", b"\x80\x04", b"<!doctype html>", b"GGUF", b"\x89PNG\r\n\x1a\n", b""))
            return start + bytes(found[len(start) :])
        case _:
            for _ in range(draw.choice((1, 1, 3, 100))):
                if found:
                    found[draw.randrange(min(len(found), 10_000))] = draw.randrange(256)
            return bytes(found)


def _header(shared: Path) -> Attempt:
    plain = (stable_diffusion(shared / "sd", "sd15") / UNET).read_bytes()
    length = int.from_bytes(plain[:8], "little")
    text, data = plain[8 : 8 + length].decode(), plain[8 + length :]

    def attempt(seed: int, place: Path) -> Outcome:
        draw, path = random.Random(seed), place / "diffusion_pytorch_model.safetensors"
        if seed % 3:
            path.write_bytes(header(mutated(text, draw).encode("utf-8", "replace"), data))
        else:
            path.write_bytes(broken_bytes(plain, draw))
        failed = judged(lambda: list(read_headers([path])), path.name)
        if failed is None and seed % 3:  # what the header says must be what the bytes hold
            stored = list(read_headers([path]))
            if sum(tensor.elements * tensor.element_bits // 8 for tensor in stored) != len(data):
                return Outcome("wrong result", "the header does not cover the data")
        path.unlink()
        return failed or WITHSTOOD

    return attempt


FILES = (
    *("model_index.json", "unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"),
    *("text_encoder/config.json", "tokenizer/tokenizer_config.json"),
)


def _json(shared: Path) -> Attempt:
    folder = stable_diffusion(shared / "sd", "sd15")
    plain = {file: (folder / file).read_text() for file in FILES}
    Pipeline.from_pretrained(folder)  # imported once, for all

    def attempt(seed: int, place: Path) -> Outcome:
        draw = random.Random(seed)
        file = draw.choice(FILES)

        def action() -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pipe = Pipeline.from_pretrained(folder)
                if seed % 4 == 0:
                    pipe("fox", steps=2, height=16, width=16, progress=False)

        (folder / file).write_text(mutated(plain[file], draw), encoding="utf-8", errors="replace")
        try:
            return judged(action, *Path(file).parts, str(folder)) or WITHSTOOD
        finally:
            (folder / file).write_text(plain[file])

    return attempt


def _separate(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _lora(shared: Path) -> Attempt:
    pipe = Pipeline.from_pretrained(stable_diffusion(shared / "sd", "sd15"))
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q"
    weight: Any = dict(pipe.backbone.named_modules())[layer].weight  # type: ignore[union-attr]
    up, down = torch.ones(weight.shape[0], 2), torch.ones(2, weight.shape[1])
    plain = weight.clone()

    def attempt(seed: int, place: Path) -> Outcome:
        draw, path = random.Random(seed), place / "lora.safetensors"
        spelled = draw.choice((("lora_A.weight", "lora_B.weight"), ("lora.down.weight", "lora.up.weight")))
        tensors = {f"unet.{layer}.{spelled[0]}": down, f"unet.{layer}.{spelled[1]}": up}
        settings = {"lora_adapter_metadata": mutated('{"unet.r": 2, "unet.lora_alpha": 4}', draw)}
        match draw.randrange(4):
            case 0:
                path.write_bytes(broken_bytes(save(_separate(tensors)), draw))
            case 1:
                path.write_bytes(save(_separate(tensors), settings))
            case 2:
                name = draw.choice(sorted(tensors))
                tensors[name] = draw.choice(
                    (torch.ones(3), torch.full_like(down, torch.nan), torch.ones(0), torch.ones(2, 2).int(), down[:1])
                )
                path.write_bytes(save(_separate(tensors)))
            case _:
                tensors[draw.choice(("x", "unet.x.lora_A.weight", "\x1b[2J", "", f"te.{layer}.alpha"))] = down
                path.write_bytes(save(_separate(tensors)))

        def action() -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pipe.unload_lora(pipe.load_lora(path))

        failed = judged(action, path.name)
        if not torch.equal(weight, plain):
            return Outcome("wrong result", "the weights are not those of before")
        shutil.rmtree(place)
        return failed or WITHSTOOD

    return attempt


ATTACKS = (
    Attack("safetensors headers", "headers with a field, byte or length that is wrong", _header, 90),
    Attack(
        "JSON of checkpoints",
        "configs, index and tokenizer settings with a field or character that is wrong",
        _json,
        40,
    ),
    Attack("LoRA files", "bytes, settings, keys and shapes that are wrong", _lora, 40),
)
