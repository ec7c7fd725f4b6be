"""Pipelines survive `pickle` and `copy.deepcopy` with the same images, or are rejected with a reason."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sadaflow import Pipeline
from support.checkpoints import musicldm, stable_diffusion, stable_diffusion_xl

COPIES: tuple[Callable[[Any], Any], ...] = (lambda pipe: pickle.loads(pickle.dumps(pipe)), copy.deepcopy)
FOLDERS: dict[str, Callable[[Path], Path]] = {
    "sd": lambda path: stable_diffusion(path, "sd15"),
    "sdxl": stable_diffusion_xl,
    "musicldm": musicldm,
}


def made(pipe: Pipeline) -> torch.Tensor:
    out = pipe("fox", steps=3, seed=5, output=None if hasattr(pipe.family, "waveform") else "tensor", progress=False)
    return out.images if out.audio is None else out.audio


@pytest.mark.parametrize("copied", COPIES, ids=["pickle", "deepcopy"])
@pytest.mark.parametrize("name", ["tiny-sd", "tiny-flux", *FOLDERS])
def test_a_copy_gives_the_same_to_the_bit(name: str, copied: Callable[[Any], Any], tmp_path: Path) -> None:
    pipe = Pipeline.from_pretrained(FOLDERS[name](tmp_path / name) if name in FOLDERS else name)
    expected = made(pipe)
    other = copied(pipe)
    assert torch.equal(made(other), expected)
    theirs = {parameter.data_ptr() for parameter in other.vae.parameters()}
    weights = {id(weight) for network in other.family.adaptable.values() for weight in network.parameters()}
    assert {id(weight) for weight in other._loras._weights.values()} == weights  # a LoRA reaches the copy's own
    assert theirs.isdisjoint(parameter.data_ptr() for parameter in pipe.vae.parameters())


@pytest.mark.parametrize("copied", COPIES, ids=["pickle", "deepcopy"])
def test_a_copy_with_controlnets_keeps_them(copied: Callable[[Any], Any]) -> None:
    pipe = Pipeline.from_pretrained(controlnet="tiny-controlnet")
    call = {"prompt": "fox", "steps": 2, "control": torch.rand(3, 64, 64), "output": "tensor"}
    assert torch.equal(copied(pipe)(**call).images, pipe(**call).images)


@pytest.mark.parametrize("copied", COPIES, ids=["pickle", "deepcopy"])
def test_pipelines_whose_weights_come_and_go_are_refused(copied: Callable[[Any], Any]) -> None:
    pipe = Pipeline.from_pretrained(offload="stream")
    with pytest.raises(ValueError, match="offload=.*load it anew"):
        copied(pipe)


@pytest.mark.parametrize("copied", COPIES, ids=["pickle", "deepcopy"])
def test_compiled_pipelines_are_refused(copied: Callable[[Any], Any]) -> None:
    pipe = Pipeline.from_pretrained().compile(whole=False, backend="eager")
    with pytest.raises(ValueError, match="compiled.*copy it first"):
        copied(pipe)
