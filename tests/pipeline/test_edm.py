"""XL checkpoints with EDM's schedule (Playground v2.5) against Diffusers: latents, images, accelerators."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from sadaflow import Pipeline
from sadaflow.accelerators.fitting import fitted
from sadaflow.accelerators.skipping.base import OutputRun
from sadaflow.accelerators.skipping.easycache import EasyCache
from sadaflow.models import AutoencoderConfig
from sadaflow.pipeline.inputs import initial_noise
from sadaflow.solvers import EDM, Preconditioned, from_scheduler_config
from support.checkpoints import stable_diffusion, stable_diffusion_xl

PROMPTS = ["a red apple", "grinning face!"]
EDM_FIELDS = {
    "_diffusers_version": "0.27.0.dev0",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "rho": 7.0,
    "sigma_data": 0.5,
    "sigma_max": 80.0,
    "sigma_min": 0.002,
}
PLAYGROUND = {
    **EDM_FIELDS,
    "_class_name": "EDMDPMSolverMultistepScheduler",
    "algorithm_type": "dpmsolver++",
    "dynamic_thresholding_ratio": 0.995,
    "euler_at_final": False,
    "final_sigmas_type": "zero",
    "lower_order_final": True,
    "sample_max_value": 1.0,
    "solver_order": 2,
    "solver_type": "midpoint",
    "thresholding": False,
}
EULER = {**EDM_FIELDS, "_class_name": "EDMEulerScheduler", "sigma_schedule": "karras"}
COSXL = {**EULER, "prediction_type": "v_prediction", "sigma_data": 1.0, "sigma_schedule": "exponential"}
STATISTICS = {"latents_mean": [-1.6574, 1.886, -1.383, 2.5155], "latents_std": [8.4927, 5.9022, 6.5498, 5.2299]}


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def written(folder: Path, part: str, fields: dict[str, Any], *, anew: bool = False) -> None:
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    file = folder / part / name
    file.write_text(json.dumps(fields if anew else {**json.loads(file.read_text()), **fields}))


def set_scheduler(folder: Path, config: dict[str, Any]) -> None:
    written(folder, "scheduler", config, anew=True)
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", config["_class_name"]]
    (folder / "model_index.json").write_text(json.dumps(index))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = stable_diffusion_xl(tmp_path_factory.mktemp("edm") / "base")
    written(made, "vae", {**STATISTICS, "scaling_factor": 0.5})
    return made


@pytest.mark.parametrize("guidance", [3.0, 1.0])
@pytest.mark.parametrize("config", [PLAYGROUND, EULER, COSXL], ids=["playground", "euler", "cosxl"])
def test_latents_and_images_match(folder: Path, config: dict[str, Any], guidance: float) -> None:
    set_scheduler(folder, config)
    reference = StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    assert type(reference.scheduler).__name__ == config["_class_name"]
    reference.set_progress_bar_config(disable=True)
    noise = initial_noise((4, 16, 16), [3, 4])
    pipe = Pipeline.from_pretrained(folder)
    assert isinstance(pipe.schedule, EDM)
    assert pipe.prediction == Preconditioned(config["sigma_data"], config["prediction_type"])
    ours = pipe(PROMPTS, steps=9, guidance=guidance, noise=noise, output="tensor")

    def theirs(output: str) -> torch.Tensor:
        return reference(
            PROMPTS, num_inference_steps=9, guidance_scale=guidance, latents=noise.clone(), output_type=output
        )[0]

    assert relative(ours.latents, theirs("latent")) < 1e-5
    assert relative(ours.images, theirs("pt")) < 1e-5


def test_split_guidance_and_accelerators(folder: Path) -> None:
    set_scheduler(folder, PLAYGROUND)
    pipe = Pipeline.from_pretrained(folder)
    noise = initial_noise((4, 16, 16), [3])
    plain = pipe(PROMPTS[0], steps=12, guidance=3.0, noise=noise, output="latent").latents
    pipe.split_guidance = True
    assert relative(pipe(PROMPTS[0], steps=12, guidance=3.0, noise=noise, output="latent").latents, plain) < 1e-5
    for accelerator in ("sada", "easycache", "seacache"):
        out = pipe(PROMPTS[0], steps=20, guidance=3.0, noise=noise, output="latent", accelerator=accelerator)
        assert out.stats.nfe[0] < 20 and bool(torch.isfinite(out.latents).all())


def test_accelerators_hold_the_output_of_the_network_itself() -> None:
    """Methods that reuse outputs keep F, not x0 nor noise: its x0 at another state follows from c_skip and c_out."""
    solver = from_scheduler_config(PLAYGROUND, 6).solver
    kind = fitted(EasyCache(), Preconditioned(0.5)).reuse
    run = OutputRun(solver, 1, kind)
    output, x, later = (torch.randn(1, 2, generator=torch.Generator().manual_seed(k)) for k in range(3))
    sigma = solver.nodes[2].sigma
    x0 = (0.25 * x + 0.5 * sigma * (sigma**2 + 0.25) ** 0.5 * output) / (sigma**2 + 0.25)
    torch.testing.assert_close(run.output(x, x0, 2), output)
    sigma = solver.nodes[3].sigma
    expected = (0.25 * later + 0.5 * sigma * (sigma**2 + 0.25) ** 0.5 * output) / (sigma**2 + 0.25)
    torch.testing.assert_close(run.x0_of(output, later, 3), expected)


def test_statistics_of_latents_are_read_or_refused(folder: Path, tmp_path: Path) -> None:
    own = json.loads((folder / "vae" / "config.json").read_text())
    assert AutoencoderConfig.from_dict(own).latents_std == tuple(STATISTICS["latents_std"])
    with pytest.raises(ValueError, match="latents_std is missing"):
        AutoencoderConfig.from_dict({**own, "latents_std": None})
    with pytest.raises(ValueError, match="latents_mean has 3 entries for 4 channels"):
        AutoencoderConfig.from_dict({**own, "latents_mean": [0.0, 1.0, 2.0]})
    with pytest.raises(ValueError, match="latents_std"):
        AutoencoderConfig.from_dict({**own, "latents_std": [1.0, 1.0, 0.0, 1.0]})
    other = stable_diffusion(tmp_path / "sd", "sd15")
    written(other, "vae", STATISTICS)
    with pytest.raises(ValueError, match="Stable Diffusion XL checkpoints only"):
        Pipeline.from_pretrained(other)
