"""Arguments of a call: numbers of every type work, and invalid ones are rejected by name before any work."""

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sadaflow import SADA, Pipeline
from sadaflow.cli import main
from sadaflow.families import Request
from sadaflow.families.values import real_number, whole_number
from sadaflow.pipeline.diffusers_names import EXPLAINED, RENAMED, UnknownArgument, remedy
from sadaflow.pipeline.inputs import read_dtype
from sadaflow.pipeline.memory_need import NotEnoughMemory, host_memory
from support.checkpoints import musicldm, stable_diffusion_xl
from support.checkpoints_flux import flux

FUNCTIONS: tuple[Callable[..., Any], ...] = (
    Pipeline.__call__, Pipeline.from_pretrained, Pipeline.from_single_file, Pipeline.load_lora,
    Pipeline.load_embedding, Pipeline.set_adapters,
)  # fmt: skip
TYPES = (
    int, np.int64, np.int32, np.asarray, torch.tensor, lambda value: torch.tensor(value, dtype=torch.int32),
    lambda value: np.array(value, dtype=np.uint16),
)  # fmt: skip


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline.from_pretrained()


@pytest.fixture
def idle(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """A pipeline whose networks must not run."""

    def refuse(*args: Any) -> Any:
        raise AssertionError("work was begun")

    monkeypatch.setattr(pipe, "denoiser", refuse)
    return pipe


def latents(pipe: Pipeline, prompt: Any = "fox", **arguments: Any) -> Tensor:
    return pipe(prompt, **{"steps": 2, "output": "latent", **arguments}).latents


@given(st.integers(0, 2**15 - 1), st.sampled_from(TYPES))
def test_integers_of_every_type_are_integers(value: int, kind: Callable[[int], Any]) -> None:
    read = whole_number("n", kind(value))
    assert type(read) is int and read == value
    assert Request(prompt=["fox"] * 3, seed=kind(value)).seeds == [value] * 3
    assert type(real_number("x", kind(value))) is float


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4))
def test_lists_of_seeds_of_every_type_are_lists(seeds: list[int]) -> None:
    for kind in (list, tuple, np.array, torch.tensor, lambda given: [np.int64(seed) for seed in given]):
        assert Request(prompt=["fox"] * len(seeds), seed=kind(seeds)).seeds == seeds


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seed": 3.0}, ["seed=3.0", "whole number"]),
        ({"seed": True}, ["seed=True"]),
        ({"seed": np.True_}, ["seed="]),
        ({"seed": torch.tensor(True)}, ["seed="]),
        ({"seed": "7"}, ["seed='7'"]),
        ({"seed": None}, ["seed=None"]),
        ({"seed": 2**64}, ["seed", "18446744073709551616"]),
        ({"seed": -(2**63) - 1}, ["seed"]),
        ({"seed": 10**5000}, ["seed", "about 2^"]),
        ({"seed": [1.5]}, ["seed[0]=1.5"]),
        ({"seed": np.zeros((1, 1), int)}, ["seed="]),
        ({"seed": [1, 2]}, ["2 seeds for 1 prompts"]),
        ({"steps": 3.5}, ["steps=3.5"]),
        ({"steps": True}, ["steps=True"]),
        ({"steps": 0}, ["at least 1"]),
        ({"steps": -1}, ["at least 1"]),
        ({"steps": "20"}, ["steps='20'"]),
        ({"guidance": "7.5"}, ["guidance='7.5'"]),
        ({"guidance": math.nan}, ["guidance", "nan"]),
        ({"guidance": True}, ["guidance=True"]),
        ({"guidance": 10**400}, ["guidance", "finite"]),
        ({"height": 64.0}, ["height=64.0"]),
        ({"width": "64"}, ["width='64'"]),
        ({"height": 63}, ["height=63", "multiple"]),
        ({"noise": torch.zeros(1, 4, 16, 16, dtype=torch.int64)}, ["noise", "int64"]),
        ({"noise": torch.full((1, 4, 16, 16), torch.nan)}, ["noise", "NaN"]),
        ({"noise": np.zeros((1, 4, 16, 16))}, ["noise", "a tensor"]),
        ({"noise": torch.zeros(1, 4, 0, 16)}, ["noise", "(1, 4, 0, 16)"]),
        ({"negative_prompt": ["a", "b"]}, ["2 negative prompts for 1 prompts"]),
        ({"negative_prompt": 5}, ["negative_prompt=5"]),
        ({"negative_prompt": [5]}, ["negative_prompt[0]=5"]),
        ({"accelerator": SADA}, ["accelerator", "class SADA"]),
        ({"accelerator": 5}, ["accelerator=5"]),
        ({"solver": 5}, ["solver=5"]),
        ({"grid": 5}, ["grid=5"]),
        ({"parallel": True}, ["parallel=True"]),
        ({"output": ["pil"]}, ["output", "pil, tensor, latent"]),
        ({"true_guidance": "2"}, ["true_guidance='2'"]),
        ({"max_sequence_length": 7.5}, ["max_sequence_length=7.5"]),
        ({"seconds": "3"}, ["seconds='3'"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(idle: Pipeline, arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the words are compared below
        idle("fox", **arguments)
    assert all(word in str(refused.value) for word in words), refused.value


@pytest.mark.parametrize("prompt", [None, 5, b"fox", ["fox", None], [5], [], {"fox": 1}, "\ud800"])
def test_prompts_are_text(idle: Pipeline, prompt: Any) -> None:
    with pytest.raises(ValueError, match="prompt"):
        idle(prompt)


def test_numbers_of_numpy_and_torch_sample_as_pythons_do(pipe: Pipeline) -> None:
    expected = latents(pipe, seed=3, guidance=2.5, height=32, width=64)
    others = {"seed": torch.tensor(3), "guidance": np.float32(2.5), "height": np.int64(32), "width": torch.tensor(64)}
    assert torch.equal(latents(pipe, steps=np.int64(2), **others), expected)
    assert torch.equal(latents(pipe, np.array(["fox"]), **{**others, "seed": np.array([3])}), expected)


@pytest.mark.parametrize("make", [None, stable_diffusion_xl, flux, musicldm], ids=["sd", "sdxl", "flux", "musicldm"])
def test_a_negative_prompt_for_each_is_that_of_each_alone(make: Any, tmp_path: Path) -> None:
    more = ["dev"] if make is flux else []
    loaded = Pipeline.from_pretrained(None if make is None else make(tmp_path / "checkpoint", *more))
    how: dict[str, Any] = {"guidance": 3.0, "seed": [1, 2, 3]}
    if make is flux:
        how |= {"true_guidance": 2.0, "height": 32, "width": 32}
    prompts, negatives = ["fox", "owl", "fox"], ["blur", None, "rust"]
    together = latents(loaded, prompts, negative_prompt=negatives, **how)
    for row, (prompt, negative) in enumerate(zip(prompts, negatives, strict=True)):
        alone = latents(loaded, prompt, negative_prompt=negative, **{**how, "seed": row + 1})
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-4)
    same = latents(loaded, prompts, negative_prompt=["blur"] * 3, **how)
    torch.testing.assert_close(same, latents(loaded, prompts, negative_prompt="blur", **how), rtol=0, atol=0)
    assert not torch.allclose(same[2], together[2], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("float16", torch.float16), ("fp16", torch.float16), ("torch.float16", torch.float16), ("half", torch.float16),
        ("bf16", torch.bfloat16), ("BFloat16", torch.bfloat16), ("fp32", torch.float32), (torch.float64, torch.float64),
    ],
)  # fmt: skip
def test_dtypes_have_names(name: Any, dtype: torch.dtype) -> None:
    assert read_dtype(name) is dtype


@pytest.mark.parametrize("dtype", [torch.int8, "int8", "float8", torch.complex64, None, 16, np.float32, ["float16"]])
def test_other_dtypes_are_refused_before_loading(dtype: Any) -> None:
    with pytest.raises(ValueError, match="dtype"):
        Pipeline.from_pretrained("no/such-checkpoint", dtype=dtype)


def test_a_string_loads_as_the_dtype_does() -> None:
    loaded: Any = Pipeline.from_pretrained(dtype="bf16")
    assert {weight.dtype for weight in loaded.backbone.parameters()} == {torch.bfloat16} == {loaded.dtype}


@pytest.mark.parametrize("device", ["nope", "cuda:99", "meta", None, True, 2.5, "cpu:x"])
def test_devices_that_are_not_there_are_refused_by_name(device: Any) -> None:
    with pytest.raises(ValueError, match="device=.*cannot be used here"):
        Pipeline.from_pretrained(device=device)


@pytest.mark.parametrize("name", [*RENAMED, *EXPLAINED])
def test_every_name_of_diffusers_gets_its_own(idle: Pipeline, name: str) -> None:
    functions = [function for function in FUNCTIONS if RENAMED.get(name, "") in inspect.signature(function).parameters]
    assert functions or name in EXPLAINED, "it is renamed to what no function takes"
    known = list(inspect.signature(functions[0] if functions else Pipeline.__call__).parameters)
    expected = f"here it is {RENAMED[name]}=" if name in RENAMED else EXPLAINED[name]
    assert remedy(name, known) == expected


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("num_inference_steps", "here it is steps="), ("guidance_scale", "here it is guidance="),
        ("generator", "seed="), ("latents", "noise="), ("mask_image", "mask="), ("stepz", "did you mean steps="),
    ],
)  # fmt: skip
def test_a_call_says_what_to_write(idle: Pipeline, name: str, words: str) -> None:
    with pytest.raises(TypeError, match=words) as refused:
        idle("fox", **{name: 1})
    assert isinstance(refused.value, UnknownArgument) and isinstance(refused.value, ValueError)


@pytest.mark.parametrize("load", [Pipeline.from_pretrained, Pipeline.from_single_file])
def test_loading_says_what_to_write(load: Any) -> None:
    with pytest.raises(TypeError, match="here it is dtype="):
        load("x.safetensors", torch_dtype=torch.float16)
    with pytest.raises(TypeError, match="leave it out"):
        load("x.safetensors", use_safetensors=True)


def test_signatures_stay_explicit() -> None:
    for function in FUNCTIONS:
        kinds = {parameter.kind for parameter in inspect.signature(function).parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD not in kinds


@pytest.mark.parametrize(
    "arguments", [{"height": 10**9}, {"width": 10**9}, {"steps": 10**9}, {"height": 10**11, "output": "latent"}]
)
def test_more_than_memory_holds_is_refused_with_both_numbers(idle: Pipeline, arguments: dict[str, Any]) -> None:
    with pytest.raises(NotEnoughMemory, match=r"takes at least [\d.e+]+ \wiB, and this machine has [\d.]+ \wiB"):
        idle("fox", **arguments)
    with pytest.raises(NotEnoughMemory):
        idle(["fox"] * 10**5, **{"height": 1024, "width": 1024, **arguments})


def test_the_estimate_is_a_lower_bound(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    found = host_memory()
    assert found is None or 2**28 < found < 2**50
    needed = 3 * 64 * 64 * 4 + 2 * 64 * 64 * pipe.vae.config.block_out_channels[0] * 4 + 4 * 16 * 16 * 4
    monkeypatch.setattr("sadaflow.pipeline.memory_need.host_memory", lambda: needed)
    latents(pipe, steps=1, output="tensor")
    monkeypatch.setattr("sadaflow.pipeline.memory_need.host_memory", lambda: needed - 1)
    with pytest.raises(MemoryError, match="not enough memory"):
        latents(pipe, steps=1, output="tensor")


@pytest.mark.parametrize("arguments", [["--height", str(10**9)], ["--steps", str(10**9)], ["--seconds", "1e300"]])
def test_the_command_says_the_same_in_a_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "fox", "--accelerate", "none", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [MemoryError(), OverflowError("int too large")])
def test_errors_of_python_are_one_line(
    error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr("sadaflow.cli.load.load_pipeline", fail)
    assert main(["generate", "fox", "--out", "never.png"]) == (1 if isinstance(error, MemoryError) else 2)
    assert capsys.readouterr().err.count("\n") == 1
