"""Checkpoints with a random fault: each loads or is rejected with a named cause, and nothing else happens."""

import random
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sadaflow.families.prompt_encoder import ClipText
from sadaflow.loading.checkpoint import Checkpoint
from sadaflow.loading.safetensors_file import read_headers
from sadaflow.models import Autoencoder, AutoencoderConfig, UNet, UNetConfig
from sadaflow.solvers import from_scheduler_config
from support.hostile import header, mutated

UNET = "unet/diffusion_pytorch_model.safetensors"


def _only_expected(action: Callable[[], object], what: object) -> bool:
    """Whether `action` raised ValueError or OSError; any error of another class fails the test."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            action()
    except (ValueError, OSError) as error:
        assert str(error).strip(), what
        return True
    except BaseException as error:
        raise AssertionError(f"{type(error).__name__}: {error}\n{what!r}"[:3000]) from error
    return False


@pytest.mark.parametrize(
    "file, mutations",
    [
        ("model_index.json", 150),
        ("unet/config.json", 150),
        ("vae/config.json", 150),
        ("scheduler/scheduler_config.json", 300),
        ("text_encoder/config.json", 60),
        ("tokenizer/tokenizer_config.json", 40),
    ],
)
def test_configs_that_went_wrong_anywhere(folder: Path, file: str, mutations: int) -> None:
    checkpoint = Checkpoint(folder, None, torch.float32, torch.device("cpu"))
    draw, path = random.Random(f"seed of {file}"), folder / file
    plain = path.read_text()

    def unet() -> None:
        config = UNetConfig.from_dict(checkpoint.json(file))
        checkpoint.network("unet", lambda: UNet(config))

    def vae() -> None:
        config = AutoencoderConfig.from_dict(checkpoint.json(file))
        checkpoint.network("vae", lambda: Autoencoder(config), Autoencoder.rename)

    actions: dict[str, Callable[[], object]] = {
        "model_index.json": lambda: checkpoint.expect({"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}),
        "unet/config.json": unet,
        "vae/config.json": vae,
        "scheduler/scheduler_config.json": lambda: from_scheduler_config(checkpoint.json(file), 50),
    }
    build = actions.get(file, lambda: ClipText.build(ClipText.prepare(checkpoint)))

    def action() -> None:
        checkpoint.pending.clear()
        build()
        checkpoint.fill()

    refused = 0
    for _ in range(mutations):
        text = mutated(plain, draw)
        path.write_text(text)
        refused += _only_expected(action, text)
    assert refused > mutations // 10
    path.write_text(plain)
    action()


def test_headers_that_went_wrong_anywhere(folder: Path) -> None:
    draw, path = random.Random("seed of headers"), folder / UNET
    plain = path.read_bytes()
    length = int.from_bytes(plain[:8], "little")
    text, data = plain[8 : 8 + length].decode(), plain[8 + length :]
    refused = 0
    for number in range(300):
        if number % 3:
            text_now = mutated(text, draw).encode()
            content = header(text_now, data if draw.random() < 0.8 else data[: draw.randrange(len(data))])
        else:
            content = bytearray(plain)
            for _ in range(draw.choice((1, 3, 100))):
                content[draw.randrange(8 + length)] = draw.randrange(256)
        path.write_bytes(content)
        refused += _only_expected(lambda: list(read_headers([path])), number)
    assert refused > 100
