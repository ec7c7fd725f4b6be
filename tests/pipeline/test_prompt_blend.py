"""A prompt that becomes another: Diffusers with embeddings replaced after steps, accelerators, batches, refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.families.text_options import blend_weights
from sadaflow.pipeline.inputs import initial_noise
from sadaflow.solvers import Adaptive
from support.checkpoints import stable_diffusion, stable_diffusion_xl
from support.checkpoints_flux import flux
from support.pictures import quiet, relative

CALL: dict[str, Any] = {"guidance": 3.0, "output": "latent"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stable_diffusion(tmp_path_factory.mktemp("blend") / "sd", "sd15")


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Pipeline:
    return Pipeline.from_pretrained(folder)


@pytest.mark.parametrize(
    ("blend", "weights"),
    [
        ((0.0, 1.0), [0.1, 0.3, 0.5, 0.7, 0.9]),
        ((0.4, 0.4), [0, 0, 1, 1, 1]),
        ((0.3, 0.7), [0, 0, 0.5, 1, 1]),
        ((1, 1), [0] * 5),
        ((0, 0), [1] * 5),
        (lambda fraction: fraction**2, [0.01, 0.09, 0.25, 0.49, 0.81]),
    ],
)
def test_the_weight_of_an_evaluation_is_that_of_its_middle(blend: Any, weights: list[float]) -> None:
    assert blend_weights(blend, 5) == pytest.approx(weights)


@pytest.mark.parametrize("blend", [(0.3, 0.7), lambda fraction: 1.2 * fraction])
def test_latents_are_those_of_replaced_embeddings(
    folder: Path, pipe: Pipeline, blend: tuple[float, float] | Callable[[float], float]
) -> None:
    first, second, negative = (pipe.encode(text).conditional.states for text in ("a cat", "a dog", ""))
    weights = blend_weights(blend, 5)

    def replaced(_: object, step: int, timestep: object, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        weight = weights[min(step + 1, 4)]
        return {"prompt_embeds": torch.cat([negative, (1 - weight) * first + weight * second])}

    noise = initial_noise((4, 16, 16), [3])
    theirs = quiet(StableDiffusionPipeline.from_pretrained(folder))(
        prompt_embeds=(1 - weights[0]) * first + weights[0] * second,
        negative_prompt_embeds=negative,
        num_inference_steps=5,
        guidance_scale=3.0,
        latents=noise,
        callback_on_step_end=replaced,
        callback_on_step_end_tensor_inputs=["prompt_embeds"],
        output_type="latent",
    ).images
    ours = pipe("a cat", blend_prompt="a dog", blend=blend, steps=5, noise=noise, **CALL)
    assert relative(ours.latents, theirs) < 1e-4
    assert ours.stats.nfe == [5.0]


@pytest.mark.parametrize("write", [stable_diffusion_xl, lambda folder: flux(folder, "dev")])
def test_pooled_states_are_blended_too(write: Callable[[Path], Path], tmp_path: Path) -> None:
    """At weight 1 from the start the picture is that of the other prompt; halfway it is neither."""
    pipe, call = Pipeline.from_pretrained(write(tmp_path / "made")), {**CALL, "steps": 2, "height": 32, "width": 32}
    first, second = (pipe(prompt, **call).latents for prompt in ("a cat", "a dog"))
    assert relative(pipe("a cat", blend_prompt="a dog", blend=(0, 0), **call).latents, second) < 1e-5
    half = pipe("a cat", blend_prompt="a dog", blend=lambda fraction: 0.5, **call).latents
    assert min(relative(half, first), relative(half, second)) > 1e-5


def test_accelerators_and_batches(pipe: Pipeline) -> None:
    """Evaluations are as many as without; a sample without a second prompt is what it is alone; Heun has two a step."""
    for how in ({"accelerator": "uniform every=2", "steps": 8}, {"solver": "heun", "steps": 3}):
        call: dict[str, Any] = {**CALL, **how}
        both = pipe(["a cat", "a fox"], blend_prompt=["a dog", None], blend=(0.2, 0.8), seed=[1, 2], **call)
        plain = pipe(["a cat", "a fox"], seed=[1, 2], **call)
        assert both.stats.nfe == plain.stats.nfe and both.stats.modes == plain.stats.modes
        assert relative(both.latents[1:], plain.latents[1:]) < 1e-4
        assert relative(both.latents[:1], plain.latents[:1]) > 1e-3
        alone = pipe("a cat", blend_prompt="a dog", blend=(0.2, 0.8), seed=1, **call)
        assert relative(alone.latents, both.latents[:1]) < 1e-4


@pytest.mark.parametrize(
    ("call", "match"),
    [
        ({"blend": (0.2, 0.8)}, "blend= needs blend_prompt="),
        ({"blend_prompt": "a", "blend": (0.8, 0.2)}, "blend=.0.8, 0.2. are not two fractions"),
        ({"blend_prompt": "a", "blend": "late"}, "blend='late' cannot be used"),
        ({"blend_prompt": ["a", "b"]}, "2 blend_prompt for 1 prompts"),
        ({"blend_prompt": 3}, "blend_prompt=3 is not text"),
        ({"blend_prompt": "a", "blend": lambda fraction: float("nan")}, r"blend\(0.5\)"),
    ],
)
def test_what_does_not_fit_is_refused(pipe: Pipeline, call: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        pipe("a cat", steps=1, **call)


def test_adaptive_solvers_are_refused(pipe: Pipeline) -> None:
    with pytest.raises(ValueError, match="blend_prompt= needs a number of evaluations"):
        pipe("a cat", blend_prompt="a dog", solver=Adaptive(pipe.schedule, 999.0, 5.0))  # type: ignore[arg-type]
