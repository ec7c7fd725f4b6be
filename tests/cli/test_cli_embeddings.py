"""Textual inversions on the command line: the picture is that of the library."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sadaflow import Pipeline
from sadaflow.cli import main


def test_an_embedding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pipe = Pipeline.from_pretrained()
    width = pipe.family.prompt_encoders["text_encoder"].encoder.config.hidden_size
    save_file({"emb_params": torch.linspace(-1, 1, 2 * width).reshape(2, width)}, "toy.safetensors")
    size = ["--height", "16", "--width", "16"]
    flags = ["--steps", "1", "--accelerate", "none", "--solver", "euler", "--out", "a.png", *size]
    assert main(["generate", "a <t>", "--embedding", "toy.safetensors", "--embedding-token", "<t>", *flags]) == 0
    call: dict[str, Any] = {"steps": 1, "solver": "euler", "height": 16, "width": 16}
    without = pipe("a <t>", **call).images[0]
    pipe.load_embedding("toy.safetensors", "<t>")
    with Image.open("a.png") as image:
        found = np.asarray(image)
    assert np.array_equal(found, np.asarray(pipe("a <t>", **call).images[0]))
    assert not np.array_equal(found, np.asarray(without))
