"""Observers in a call, cheap pictures of x0, and preview decoders."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file
from torch.nn import functional as F

from sadaflow import STOP, Edit, Pipeline, Step
from sadaflow.families import Request
from sadaflow.files.metadata import Recipe
from sadaflow.generation.outputs import Generator
from sadaflow.sampling.observing import Reply

PROMPTS = ["red apple", "hot dog"]


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline.from_pretrained("tiny-sd")


def call(pipe: Pipeline, observer: Any = None, **how: Any) -> Any:
    settings = {"steps": 8, "solver": "dpmpp2m", "seed": [1, 2], "output": "tensor", "progress": False}
    return pipe(PROMPTS, observer=observer, **{**settings, **how})


def test_an_observer_sees_and_edits_a_call(pipe: Pipeline) -> None:
    seen: list[Step] = []
    plain, watched = call(pipe), call(pipe, lambda step: seen.append(step))
    assert torch.equal(plain.latents, watched.latents) and [step.index for step in seen] == list(range(8))
    assert seen[-1].x_next is not None and torch.equal(seen[-1].x_next, plain.latents)

    def first_only(step: Step) -> Reply:
        if step.index != 3:
            return None
        x0 = step.x0.clone()
        x0[0] *= 0.5
        return Edit(x0=x0)

    edited = call(pipe, first_only)
    assert torch.equal(edited.latents[1], plain.latents[1]) and not torch.equal(edited.latents[0], plain.latents[0])
    assert torch.equal(edited.images[1], plain.images[1])


def test_a_bar_and_an_observer_go_together(pipe: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    stopped = call(pipe, lambda step: STOP if step.index == 4 else None, progress=True)
    assert stopped.stats.stopped_after == 5 and "/8 " in capsys.readouterr().err


def test_accelerated_calls_may_be_edited_and_stopped(pipe: Pipeline) -> None:
    def halve(step: Step) -> Reply:
        return Edit(x0=step.x0 * torch.tensor([0.5, 1.0]).view(2, 1, 1, 1)) if step.index == 9 else None

    plain, edited = (call(pipe, observer, steps=20, accelerator="auto") for observer in (None, halve))
    assert edited.stats.modes[0][10] == "full"
    torch.testing.assert_close(edited.latents[1], plain.latents[1], rtol=0, atol=1e-3)  # another batch at some steps
    assert call(pipe, lambda step: STOP, steps=20, accelerator="sada", trace=True).trace.x0.shape[1] == 1


def test_previews_and_observers_with_streamed_weights(pipe: Pipeline) -> None:
    away = Pipeline.from_pretrained("tiny-sd", offload="stream")
    shown: list[torch.Tensor] = []
    found = call(away, lambda step: shown.append(away.preview(step.x0)))
    assert torch.equal(found.latents, call(pipe).latents)
    torch.testing.assert_close(shown[-1], pipe.preview(found.latents))


@pytest.mark.parametrize("observer", [3, "callback", list])
def test_what_is_no_observer_is_refused(pipe: Pipeline, observer: Any) -> None:
    with pytest.raises(ValueError, match="observer=.* cannot be used: give a function of a Step"):
        call(pipe, observer)


def test_callbacks_of_diffusers_are_explained(pipe: Pipeline) -> None:
    with pytest.raises(ValueError, match="observer= is called with a Step after every step"):
        pipe("red apple", callback_on_step_end=print)


def test_the_linear_preview_resembles_the_picture_and_is_always_the_same(pipe: Pipeline) -> None:
    made = call(pipe, steps=20)
    shown = pipe.preview(made.latents)
    assert shown.shape == (2, 3, 16, 16) and shown.dtype == torch.float32
    assert float(shown.min()) >= 0 and float(shown.max()) <= 1
    expected = F.adaptive_avg_pool2d(made.images, 16)
    for picture, right in zip(shown, expected, strict=True):
        assert float(torch.corrcoef(torch.stack([picture.flatten(), right.flatten()]))[0, 1]) > 0.8
    again = Pipeline.from_pretrained("tiny-sd")
    assert torch.equal(again.preview(made.latents), shown)
    assert torch.equal(copy.deepcopy(again).preview(made.latents[:1]), shown[:1])
    (first, _) = pipe.preview(made.latents, output="pil")
    assert first.size == (16, 16)


def save_tiny(folder: Path, **changed: Any) -> AutoencoderTiny:
    torch.manual_seed(3)
    fields: dict[str, Any] = {
        "decoder_block_out_channels": (8, 8, 8), "num_decoder_blocks": (1, 1, 1),
        "encoder_block_out_channels": (8, 8, 8), "num_encoder_blocks": (1, 1, 1),
    }  # fmt: skip
    network = AutoencoderTiny(**{**fields, **changed})
    network.save_pretrained(folder)
    return network


def test_a_preview_decoder_decodes_as_diffusers_does(tmp_path: Path) -> None:
    theirs = save_tiny(tmp_path, scaling_factor=1.5, shift_factor=0.2)
    pipe = Pipeline.from_pretrained("tiny-sd")
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    linear = pipe.preview(latents)
    pipe.load_preview_decoder(tmp_path)
    with torch.no_grad():
        expected = theirs.decode(latents / 1.5 + 0.2).sample / 2 + 0.5
    torch.testing.assert_close(pipe.preview(latents), expected.clamp(0, 1), rtol=0, atol=1e-5)
    assert linear.shape[2:] == (16, 16) and pipe.preview(latents).shape[2:] == (64, 64)


@pytest.mark.parametrize("prefix", ["", "decoder.", "hub"])
def test_a_preview_decoder_in_a_single_file(prefix: str, tmp_path: Path) -> None:
    """taesd_decoder.safetensors: layers by number, of which the first limits the range and has no weights."""
    theirs = save_tiny(tmp_path, num_decoder_blocks=(2, 1, 1))
    state = {name: x for name, x in theirs.state_dict().items() if name.startswith("decoder.")}
    if prefix != "hub":
        numbers = {name: name.removeprefix("decoder.layers.").partition(".") for name in state}
        state = {f"{prefix}{int(numbers[name][0]) + 1}.{numbers[name][2]}": x for name, x in state.items()}
    save_file(state, tmp_path / "taesd_decoder.safetensors")
    pipe = Pipeline.from_pretrained("tiny-sd")
    pipe.load_preview_decoder(tmp_path / "taesd_decoder.safetensors")
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs.decode(latents).sample / 2 + 0.5
    torch.testing.assert_close(pipe.preview(latents), expected.clamp(0, 1), rtol=0, atol=1e-5)
    state.pop(list(state)[-1])  # the bias by which the last layer is known
    save_file(state, tmp_path / "damaged.safetensors")
    with pytest.raises(ValueError, match=r"damaged.safetensors.*no tiny decoder.*is missing"):
        pipe.load_preview_decoder(tmp_path / "damaged.safetensors")


def test_preview_decoders_that_do_not_fit_are_refused(tmp_path: Path, pipe: Pipeline) -> None:
    save_tiny(tmp_path / "flux", latent_channels=16)
    save_tiny(tmp_path / "deep", decoder_block_out_channels=(8,) * 4, num_decoder_blocks=(1,) * 4)
    for name, message in (
        ("flux", "flux: its latents have 16 channels, the checkpoint's 4"),
        ("deep", "deep: its latents have 8 pixels per position along a side, the checkpoint's 4"),
    ):
        with pytest.raises(ValueError, match=message):
            pipe.load_preview_decoder(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="config.json"):
        pipe.load_preview_decoder(tmp_path)


@pytest.mark.parametrize(
    ("x0", "output", "message"),
    [
        (torch.zeros(1, 3, 8, 8), "tensor", r"x0 has shape \(1, 3, 8, 8\), expected \(B, 4, h, w\)"),
        (torch.zeros(4, 8, 8), "tensor", r"expected \(B, 4, h, w\)"),
        ([0.0], "tensor", r"x0=\[0.0\] cannot be used: give a tensor"),
        (torch.zeros(1, 4, 8, 8), "png", "unknown output 'png'; known: "),
    ],
)
def test_what_cannot_be_shown_is_refused(pipe: Pipeline, x0: Any, output: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipe.preview(x0, output)


def test_a_picture_of_a_stopped_run_says_so(pipe: Pipeline) -> None:
    request = Request(prompt="red apple", steps=8, solver="dpmpp2m", guidance=5.0)
    generator = Generator(pipe, request, "tiny-sd")
    made = generator.sample(request, progress=False, observer=lambda step: STOP if step.index == 2 else None)
    recipe = generator.file(made, request, 0).recipe
    assert recipe.options["stopped_after"] == 3 and len(recipe.modes) == 3 and recipe.nfe == 3
    assert "Stopped after: 3" in recipe.parameters() and Recipe.from_json(recipe.to_json()) == recipe
    whole = generator.file(generator.sample(request, progress=False), request, 0).recipe
    assert "stopped_after" not in whole.options
