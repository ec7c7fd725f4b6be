"""Where a call with a picture begins, what it keeps, and what fits beside it."""

from typing import Any

import numpy as np
import pytest
import torch

from sadaflow import Pipeline, sample
from sadaflow.families import Request
from sadaflow.sampling.blending import BlendedDenoiser
from sadaflow.solvers import SOLVERS, Adaptive, draws_noise
from support.pictures import mask, picture

PIL = picture()
TENSOR = torch.from_numpy(np.asarray(PIL).copy()).permute(2, 0, 1) / 255


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline.from_pretrained()


def test_strength_0_returns_the_picture(pipe: Pipeline) -> None:
    out = pipe(["a", "b"], image=PIL, strength=0, seed=[1, 2], output="tensor")
    torch.testing.assert_close(out.images, TENSOR.expand(2, -1, -1, -1), rtol=0, atol=1e-6)
    assert out.stats.nfe == [0.0, 0.0] and out.latents.shape == (2, 4, 10, 14)
    mean = pipe.vae.encode(TENSOR[None] * 2 - 1)[0] * pipe.vae.config.scaling_factor
    torch.testing.assert_close(out.latents[:1], mean, rtol=0, atol=1e-5)
    assert pipe("a", image=PIL, strength=0).images[0].tobytes() == PIL.tobytes()


@pytest.mark.parametrize(
    ("steps", "strength", "taken"), [(10, 0.55, 5), (50, 0.58, 28), (100, 0.29, 28), (10, 1.0, 10), (3, 0.34, 1)]
)
def test_steps_are_rounded_down_as_published(pipe: Pipeline, steps: int, strength: float, taken: int) -> None:
    request: dict[str, Any] = {"height": 40, "width": 56, "image": PIL, "strength": strength, "steps": steps}
    solver = pipe.solver_for(Request("a", solver="euler", **request))
    assert solver.grid.n_steps == taken and solver.n_evals == taken
    whole = pipe.solver("euler", steps).grid
    assert torch.equal(solver.grid.t, whole.t[steps - taken :])


def test_start_step_in_place_of_strength(pipe: Pipeline) -> None:
    call: dict[str, Any] = {"image": PIL, "steps": 10, "solver": "euler", "output": "latent"}
    assert torch.equal(pipe("a", start_step=4, **call).latents, pipe("a", strength=0.6, **call).latents)
    with pytest.raises(ValueError, match=r"strength= and start_step= each say where sampling begins: give one"):
        pipe("a", strength=0.5, start_step=4, **call)
    with pytest.raises(ValueError, match="start_step=10 of 10 steps: the last one is 9"):
        pipe("a", start_step=10, **call)
    with pytest.raises(ValueError, match=r"strength=0.05 of 10 steps is less than one step: give at least 0.1,"):
        pipe("a", strength=0.05, **call)


@pytest.mark.parametrize(
    "accelerator", [None, "uniform", *(pytest.param(n, marks=pytest.mark.slow) for n in ("sada", "auto", "deepcache"))]
)
@pytest.mark.parametrize("strength", [0.7, 1.0])
def test_what_is_not_repainted_stays_to_the_bit(pipe: Pipeline, accelerator: str | None, strength: float) -> None:
    call: dict[str, Any] = {"image": PIL, "output": "latent"}
    kept = pipe("red apple", strength=0, **call).latents
    inside = torch.from_numpy(np.asarray(mask()) >= 128)[::4, ::4]
    how = {"mask": mask(), "steps": 20, "strength": strength, "accelerator": accelerator}
    out = pipe("red apple", seed=3, **call, **how)
    assert torch.equal(out.latents[..., ~inside], kept[..., ~inside])
    assert float((out.latents - kept)[..., inside].abs().max()) > 0.5
    assert accelerator in (None, "auto") or out.stats.nfe[0] < round(20 * strength)


# They combine the network's v, which turns along the path of a constant x0.
TURNING = ("plms", "pndm")


@pytest.mark.parametrize("solver", [name for name in SOLVERS if not draws_noise(name) and name not in TURNING])
def test_every_solver_keeps_to_the_path_outside_the_mask(pipe: Pipeline, solver: str) -> None:
    """States outside the mask are alpha x0 + sigma z all the way, without blending them."""
    request = Request("a", image=PIL, mask=mask(), steps=8, strength=0.6, solver=solver, height=40, width=56)
    part = pipe.part(pipe.solver(solver, 8), request)
    states: list[torch.Tensor] = []
    denoise = BlendedDenoiser(_Wrong(), torch.zeros(1, 1, 2, 2, dtype=torch.bool), x0 := torch.randn(1, 4, 2, 2))
    z = torch.randn(1, 4, 2, 2)
    point = part.grid.points[0]
    sample(part, denoise, point.alpha * x0 + point.sigma * z, observer=lambda step: states.append(step.x))
    assert len(states) == part.n_evals
    for state, node in zip(states, part.nodes, strict=True):
        torch.testing.assert_close(state, node.alpha * x0 + node.sigma * z, rtol=0, atol=1e-4)


class _Wrong:
    """A denoiser whose x0 is noise; it lacks what `BlendedDenoiser` only passes on."""

    has_negative = False

    def __call__(self, x: torch.Tensor, step: int) -> torch.Tensor:
        return torch.randn_like(x)

    def evaluate(self, x: torch.Tensor, step: int, rows: Any, seam: Any) -> torch.Tensor:
        return torch.randn_like(x)


def test_kept_pixels_are_pasted_as_an_option(pipe: Pipeline) -> None:
    call: dict[str, Any] = {"image": PIL, "mask": mask(), "steps": 4, "output": "tensor"}
    grey = torch.from_numpy(np.asarray(mask()).copy()) / 255
    made, put = pipe("a", **call).images, pipe("a", **call, paste=True).images
    torch.testing.assert_close(put[0], grey * made[0] + (1 - grey) * TENSOR, rtol=0, atol=1e-6)
    blurred = pipe("a", **call, paste=True, mask_blur=2).images
    assert not torch.equal(put, blurred)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"strength": 0.5}, "strength= needs a picture: image="),
        ({"mask": mask()}, "mask= needs a picture: image="),
        ({"image": PIL, "paste": True}, "paste=True needs a mask: mask="),
        ({"image": PIL, "padding_mask_crop": 8}, "padding_mask_crop=8 needs a mask"),
        ({"image": PIL, "strength": 1.5}, "strength must lie between 0 and 1, got 1.5"),
        ({"image": PIL, "strength": float("nan")}, "strength must be a finite number"),
        ({"image": PIL, "posterior": "mean"}, "unknown posterior 'mean'; known: mode, sample"),
        ({"image": PIL, "image_guidance": 2}, "image_guidance= is for InstructPix2Pix checkpoints"),
        ({"image": torch.zeros(1, 4, 8, 8), "height": 64}, "height=64, but the latents image= are those of 32x32"),
        ({"image": PIL, "denoising_start": 0.5, "denoising_end": 0.5}, "leave no step to take"),
        ({"denoising_end": 0.0001}, "takes no step"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit(pipe: Pipeline, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pipe("a", steps=4, **arguments)


def test_solvers_without_a_grid_of_their_own(pipe: Pipeline) -> None:
    schedule = pipe.schedule
    with pytest.raises(ValueError, match="image= begins on a point of a grid, and an adaptive solver has none"):
        pipe("a", image=PIL, solver=Adaptive(schedule, schedule.t_max, 1.0))
    given = pipe("a", image=PIL, strength=0.5, solver=pipe.solver("euler", 10), output="latent")
    named = pipe("a", image=PIL, strength=0.5, solver="euler", steps=10, output="latent")
    assert torch.equal(given.latents, named.latents)
