"""EDM's scheduler classes against Diffusers, on a network that is preconditioned around an exact denoiser."""

import math
from typing import Any

import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler
from torch import Tensor

from sadaflow.solvers import (
    EDM,
    Preconditioned,
    SolverSetup,
    from_scheduler_config,
    from_x0,
    input_scale,
    to_x0,
)
from sadaflow.solvers.checks.problems import mixture

TOLERANCE = 1e-5


def noise() -> Tensor:
    return torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network(scaled: Tensor, timestep: float, config: dict[str, Any]) -> Tensor:
    """F of Table 1 of EDM for the exact denoiser, written out from its definition; it sees c_in x and ln(sigma) / 4."""
    data, sigma = config.get("sigma_data", 0.5), math.exp(4 * timestep)
    norm = math.sqrt(sigma**2 + data**2)
    x = scaled * norm
    sign = -1 if config.get("prediction_type") == "v_prediction" else 1
    return (mixture().x0(x, 1.0, sigma) - data**2 / norm**2 * x) / (sign * sigma * data / norm)


def ours(setup: SolverSetup, config: dict[str, Any]) -> list[Tensor]:
    state, seen = setup.solver.start(noise()), []
    while state.step < setup.solver.n_evals:
        seen.append(state.x)
        node = setup.solver.nodes[state.step]
        scaled = input_scale(setup.prediction, node.alpha, node.sigma) * state.x
        output = network(scaled, node.timestep, config)
        state = setup.solver.step(state, to_x0(setup.prediction, output, state.x, node.alpha, node.sigma))
    return [*seen, state.x]


def theirs(scheduler: Any, evaluations: int, config: dict[str, Any]) -> list[Tensor]:
    """The same by Diffusers, which evaluates once more where its last step has length zero."""
    x, seen = noise() * scheduler.init_noise_sigma, []
    assert len(scheduler.timesteps) - evaluations in (0, 1)
    generator = torch.Generator().manual_seed(5)
    for index in range(evaluations):
        seen.append(x)
        t, sigma = scheduler.timesteps[index], float(scheduler.sigmas[index])
        scaled = scheduler.scale_model_input(x, t)
        x = scheduler.step(network(scaled, math.log(sigma) / 4, config), t, x, generator=generator).prev_sample
    return [*seen, x]


class Recorded:
    """Hands out the draws, one a step, that the generator above gives Diffusers."""

    def __call__(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(5)
        return [torch.randn(like.shape, generator=generator, dtype=like.dtype) for _ in range(index)][-1]


def difference(scheduler_class: Any, config: dict[str, Any], steps: int) -> float:
    """Largest difference over a trajectory, relative to the largest |x| at that point.

    Diffusers' Euler computes x' = x + (x - x0) / sigma dt in float32. In the step from sigma_max straight to sigma_min
    of two steps this loses two roundings of numbers of the size of x at its start, which are not counted.
    """
    scheduler = scheduler_class(**config)
    scheduler.set_timesteps(steps)
    setup = from_scheduler_config({"_class_name": scheduler_class.__name__, **config}, steps, noise=Recorded())
    told = torch.tensor([node.timestep for node in setup.solver.nodes], dtype=torch.float64)
    torch.testing.assert_close(scheduler.timesteps[: len(told)].double(), told, rtol=0, atol=1e-6)
    pairs = zip(ours(setup, config), theirs(scheduler, len(told), config), strict=True)
    worst, lost = 0.0, 0.0
    for a, b in pairs:
        size = float(b.abs().max())
        worst = max(worst, (float((a - b).abs().max()) - lost) / size)
        lost += 2 * 2.0**-24 * size if scheduler_class is EDMEulerScheduler and steps == 2 else 0.0
    return worst


PLAYGROUND = {"sigma_data": 0.5, "sigma_max": 80.0, "sigma_min": 0.002, "rho": 7.0, "sigma_schedule": "karras"}


@pytest.mark.parametrize("steps", [1, 2, 4, 9, 20])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_both_classes(prediction: str, steps: int) -> None:
    config = {**PLAYGROUND, "prediction_type": prediction}
    assert difference(EDMEulerScheduler, config, steps) < TOLERANCE
    for order in (1, 2, 3):
        for kind in ("midpoint", "heun"):
            multistep = {**config, "solver_order": order, "solver_type": kind}
            assert difference(EDMDPMSolverMultistepScheduler, multistep, steps) < TOLERANCE


@pytest.mark.parametrize("steps", [2, 5, 20])
def test_other_fields(steps: int) -> None:
    for scheduler in (EDMEulerScheduler, EDMDPMSolverMultistepScheduler):
        for config in (
            {"sigma_data": 1.0, "sigma_max": 500.0, "sigma_schedule": "exponential"},  # CosXL
            {"final_sigmas_type": "sigma_min"},
            {"rho": 3.0, "sigma_min": 0.01},
        ):
            assert difference(scheduler, config, steps) < TOLERANCE
    for config in ({"lower_order_final": False}, {"euler_at_final": True}, {"algorithm_type": "sde-dpmsolver++"}):
        assert difference(EDMDPMSolverMultistepScheduler, config, steps) < TOLERANCE


def test_factors() -> None:
    """The table of the paper at alpha = 1, v of Salimans & Ho on a variance-preserving schedule, and the way back."""
    c_in, c_skip, c_out = Preconditioned(0.5).factors(1.0, 2.0)
    assert c_in == pytest.approx(1 / math.sqrt(4.25))
    assert (c_skip, c_out) == (pytest.approx(0.25 / 4.25), pytest.approx(1 / math.sqrt(4.25)))
    x, output = noise(), noise().flip(0)
    own, v = Preconditioned(1.0, "v_prediction"), (0.6, 0.8)
    torch.testing.assert_close(to_x0(own, output, x, *v), to_x0("v_prediction", output, x, *v))
    assert input_scale(own, *v) == pytest.approx(1) and input_scale("epsilon", 1.0, 80.0) == 1
    for kind in (Preconditioned(0.7), own):
        for point in ((1.0, 3.0), (0.3, 0.2), (0.0, 1.0)):
            torch.testing.assert_close(from_x0(kind, to_x0(kind, output, x, *point), x, *point), output)
    with pytest.raises(ValueError, match="sigma = 0"):
        from_x0(own, x, x, 1.0, 0.0)


def test_other_solvers_and_points_keep_the_schedule() -> None:
    config = {"_class_name": "EDMDPMSolverMultistepScheduler", **PLAYGROUND}
    for solver in ("euler", "dpmpp2m", "heun", "unipc", "ab4"):
        setup = from_scheduler_config(config, 8, solver=solver)
        assert isinstance(setup.schedule, EDM) and setup.prediction == Preconditioned(0.5)
        assert [node.timestep for node in setup.grid.nodes] == pytest.approx(
            [math.log(node.sigma) / 4 for node in setup.grid.nodes]
        )
    given = from_scheduler_config(config, 2, sigmas=[80.0, 3.0, 0.0])
    told = from_scheduler_config(config, 2, timesteps=[math.log(80.0) / 4, math.log(3.0) / 4])
    assert given.grid.sigma.tolist() == pytest.approx([80.0, 3.0, 0.0]) == told.grid.sigma.tolist()
    even = from_scheduler_config(config, 4, grid="exponential").grid.log_snr[:4].diff()
    torch.testing.assert_close(even, even.flip(0))


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"prediction_type": "sample"}, "prediction_type='sample'"),
        ({"algorithm_type": "dpmsolver"}, "algorithm_type='dpmsolver'"),
        ({"thresholding": True}, "thresholding=True"),
        ({"sigma_schedule": "linear"}, "sigma_schedule='linear'"),
        ({"sigma_data": 0.0}, "sigma_data"),
        ({"sigma_min": 90.0}, "sigma_min"),
    ],
)
def test_refused(field: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_scheduler_config({"_class_name": "EDMDPMSolverMultistepScheduler", **field}, 8)
