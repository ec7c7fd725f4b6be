"""`Denoiser.wrap`: predictions, times, guidance and outputs against closed forms."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sadaflow import Denoiser, Guided, NetworkCall, sample
from sadaflow.models import call_through
from sadaflow.sampling import TIMES
from sadaflow.solvers import (
    EDM,
    Adaptive,
    CosineVP,
    Grid,
    Node,
    Preconditioned,
    RectifiedFlow,
    Schedule,
    VPDiscrete,
    make_solver,
)

MEAN, VARIANCE = 0.4, 0.3
TABLE = VPDiscrete(torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0))
FLOW, COSINE, KARRAS = RectifiedFlow(), CosineVP(), EDM(sigma_max=20.0)
SPANS = {FLOW: (1.0, 0.0), COSINE: (0.98, 0.0), KARRAS: (20.0, 0.0), TABLE: (999.0, 0.0)}
NOISE = torch.randn(3, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def solver_on(schedule: Schedule, name: str = "euler", steps: int = 6) -> Any:
    return make_solver(name, Grid.from_t(schedule, torch.linspace(*SPANS[schedule], steps + 1).tolist()))


def posterior(x: Tensor, alpha: float, sigma: float, mean: float = MEAN) -> Tensor:
    """The mean of x0 given x, for data of one Gaussian."""
    return mean + alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2) * (x - alpha * mean)


def predicted(kind: str, x: Tensor, alpha: float, sigma: float) -> Tensor:
    """What a network of that kind returns, from the definitions."""
    x0 = posterior(x, alpha, sigma)
    eps = (x - alpha * x0) / sigma
    return {"x0": x0, "eps": eps, "v": alpha * eps - sigma * x0, "flow": eps - x0, "reversed_flow": x0 - eps}[kind]


# Each time input as a function of alpha and sigma, from the definitions.
FROM_TIME = {
    "t": (FLOW, lambda t: (1 - t, t)),
    "1-t": (FLOW, lambda t: (t, 1 - t)),
    "1000t": (FLOW, lambda t: (1 - t / 1000, t / 1000)),
    "timestep": (FLOW, lambda t: (1 - t / 1000, t / 1000)),
    "sigma": (FLOW, lambda s: (1 - s, s)),
    "sigma_ve": (KARRAS, lambda s: (1.0, s)),
    "c_noise": (KARRAS, lambda c: (1.0, math.exp(4 * c))),
    "log_snr": (COSINE, lambda snr: (torch.sigmoid(2 * snr) ** 0.5, torch.sigmoid(-2 * snr) ** 0.5)),
    "alpha": (COSINE, lambda a: (a, (1 - a**2) ** 0.5)),
    "alpha_cumprod": (TABLE, lambda a: (a**0.5, (1 - a) ** 0.5)),
}


@pytest.mark.parametrize("time", TIMES)
def test_a_network_finds_its_noise_level_in_the_time_it_is_told(time: str) -> None:
    schedule, levels = FROM_TIME[time]
    kind = "eps" if schedule is KARRAS else "x0"

    def network(x: Tensor, t: Tensor) -> Tensor:
        assert t.shape == (3,) and t.dtype == torch.float64
        alpha, sigma = (torch.as_tensor(level, dtype=torch.float64) for level in levels(t[0]))
        return predicted(kind, x, float(alpha), float(sigma))

    solver = solver_on(schedule)
    bound = Denoiser.wrap(network, prediction=kind, schedule=schedule, time=time).over(solver.nodes, NOISE)
    for step, node in enumerate(solver.nodes):
        torch.testing.assert_close(bound(NOISE, step), posterior(NOISE, node.alpha, node.sigma), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "schedule"),
    [(kind, schedule) for kind in ("x0", "flow", "reversed_flow") for schedule in (FLOW, COSINE, TABLE)]
    + [("eps", KARRAS), ("eps", COSINE), ("eps", TABLE), ("v", COSINE), ("v", TABLE)],
)
def test_every_prediction_becomes_x0(kind: str, schedule: Schedule) -> None:
    nodes = solver_on(schedule).nodes
    step = 0

    def network(x: Tensor, t: Tensor) -> Tensor:
        return predicted(kind, x, nodes[step].alpha, nodes[step].sigma)

    denoise = Denoiser.wrap(network, prediction=kind, schedule=schedule).over(nodes, NOISE)
    for step, node in enumerate(nodes):
        torch.testing.assert_close(denoise(NOISE, step), posterior(NOISE, node.alpha, node.sigma))


def test_a_network_preconditioned_as_by_karras() -> None:
    """Table 1 of arXiv 2206.00364: D = c_skip x + c_out F(c_in x, c_noise)."""
    data = 0.7

    def network(scaled: Tensor, noise: Tensor) -> Tensor:
        sigma = float((4 * noise[0]).exp())
        x = scaled * math.sqrt(sigma**2 + data**2)
        skip, out = data**2 / (sigma**2 + data**2), sigma * data / math.sqrt(sigma**2 + data**2)
        return (posterior(x, 1.0, sigma) - skip * x) / out

    solver = solver_on(KARRAS, "heun")
    denoise = Denoiser.wrap(network, prediction=Preconditioned(data), schedule=KARRAS).over(solver.nodes, NOISE)
    for step, node in enumerate(solver.nodes):
        torch.testing.assert_close(denoise(NOISE, step), posterior(NOISE, 1.0, node.sigma), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", [FLOW, KARRAS, TABLE], ids=["flow", "edm", "table"])
@pytest.mark.parametrize("name", ["heun", "midpoint", "rk4", "dpmpp2s", "kdpm2"])
def test_a_network_told_sigma_gets_that_of_the_node_also_between_grid_points(name: str, schedule: Schedule) -> None:
    told: list[float] = []

    def network(x: Tensor, sigma: Tensor) -> Tensor:
        told.append(float(sigma[0]))
        return 0 * x

    solver = solver_on(schedule, name)
    sample(solver, Denoiser.wrap(network, prediction="x0", schedule=schedule, time="sigma"), NOISE)
    assert told == [node.sigma for node in solver.nodes]
    between = {point.sigma for point in solver.grid.points}
    assert name in ("heun", "dpmpp2s") or any(sigma not in between for sigma in told)


def test_a_time_of_a_function_is_told_as_it_is_and_whole_numbers_stay_whole() -> None:
    seen: list[Tensor] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return 0 * x

    def index(node: Node) -> int:
        return round(node.timestep)

    solver = solver_on(TABLE)
    sample(solver, Denoiser.wrap(network, prediction="x0", schedule=TABLE, time=index), NOISE)
    assert [int(t[0]) for t in seen] == [round(node.timestep) for node in solver.nodes]
    assert all(t.dtype == torch.long for t in seen)


class Classes(nn.Module):
    """Returns a multiple of x that the label decides; 9 is the null label."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.arange(10, dtype=torch.float64), requires_grad=False)
        self.calls: list[int] = []

    def forward(self, x: Tensor, t: Tensor, y: Tensor, bias: float = 0.0) -> Tensor:
        self.calls.append(len(x))
        return self.table[y][:, None, None, None] * x + bias


def test_guidance_between_a_label_and_the_null_label_for_any_rows() -> None:
    net, labels = Classes(), torch.tensor([1, 2, 5])
    denoise = Denoiser.wrap(
        net, prediction="x0", schedule=FLOW, conditioning={"y": labels}, guidance=Guided(3.0, {"y": 9})
    ).over(solver_on(FLOW).nodes, NOISE)
    expected = (9 + 3.0 * (labels - 9))[:, None, None, None] * NOISE
    torch.testing.assert_close(denoise(NOISE, 0), expected)
    for rows in ([2], [0, 2], [2, 1]):
        torch.testing.assert_close(denoise.evaluate(NOISE[rows], 1, rows, call_through), expected[rows])
        guided, own = denoise.evaluate_branches(NOISE[rows], 1, rows, call_through)
        torch.testing.assert_close(guided, expected[rows])
        torch.testing.assert_close(own, labels[rows][:, None, None, None] * NOISE[rows])
        torch.testing.assert_close(denoise.evaluate_conditional(NOISE[rows], 1, rows, call_through), own)
    assert net.calls[0] == 6 and net.calls[-1] == 2  # both branches in one call, the conditional one alone


def test_guidance_of_some_channels_leaves_the_others_to_the_conditional_branch() -> None:
    net, labels = Classes(), torch.tensor([1, 2, 5])
    guidance = Guided(3.0, {"y": torch.tensor([9, 8, 9])}, channels=3)
    denoise = Denoiser.wrap(net, prediction="x0", schedule=FLOW, conditioning={"y": labels}, guidance=guidance)
    found = denoise.over(solver_on(FLOW).nodes)(NOISE, 0)
    negative = torch.tensor([9, 8, 9])
    factor = (negative + 3.0 * (labels - negative))[:, None, None, None]
    torch.testing.assert_close(found, torch.cat((factor * NOISE[:, :3], labels[:, None, None, None] * NOISE[:, 3:]), 1))


def test_a_second_network_is_the_negative_branch() -> None:
    weak, labels = Classes(), torch.tensor([1, 2, 5])
    weak.table += 1
    nodes = solver_on(FLOW).nodes

    def found(guidance: Guided) -> Tensor:
        wrapped = Denoiser.wrap(
            Classes(), prediction="x0", schedule=FLOW, conditioning={"y": labels}, guidance=guidance
        )
        assert wrapped.has_negative
        return wrapped.over(nodes, NOISE).evaluate(NOISE[1:], 0, [1, 2], call_through)

    own = labels[1:, None, None, None]
    torch.testing.assert_close(found(Guided(2.0, network=weak)), (own - 1) * NOISE[1:])  # (l+1) + 2 (l - (l+1))
    unconditional = Guided(2.0, {}, network=lambda x, t: 4 * x)
    torch.testing.assert_close(found(unconditional), (4 + 2 * (own - 4)) * NOISE[1:])


@pytest.mark.parametrize(
    ("pack", "part"),
    [
        (lambda output: (output, "more"), None),
        (lambda output: {"sample": output}, None),
        (lambda output: SimpleNamespace(sample=output), None),
        (lambda output: torch.cat((output, 7 + output), dim=1), None),
        (lambda output: {"eps": output}, "eps"),
        (lambda output: SimpleNamespace(eps=output), "eps"),
        (lambda output: [0, output], 1),
        (lambda output: (0, {"a": output}), lambda output: output[1]["a"]),
    ],
)
def test_the_prediction_is_found_in_what_a_network_returns(pack: Any, part: Any) -> None:
    denoise = Denoiser.wrap(lambda x, t: pack(2 * x), prediction="x0", schedule=FLOW, call=NetworkCall(output=part))
    assert torch.equal(denoise.over(solver_on(FLOW).nodes)(NOISE, 0), 2 * NOISE)


def test_other_names_and_orders_of_arguments_and_shared_ones() -> None:
    def network(*, noisy: Tensor, when: Tensor, what: Tensor, factor: float) -> Tensor:
        return what[:, None, None, None] * factor * noisy

    call = NetworkCall(shared={"factor": 10.0}, function=lambda net, x, t, **more: net(noisy=x, when=t, **more))
    what = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    denoise = Denoiser.wrap(network, prediction="x0", schedule=FLOW, conditioning={"what": what}, call=call)
    found = denoise.over(solver_on(FLOW).nodes, NOISE).evaluate(NOISE[[2]], 0, [2], call_through)
    assert torch.equal(found, 30 * NOISE[[2]])


def test_a_network_in_half_precision_is_called_in_it_and_the_state_keeps_its_own() -> None:
    net = nn.Conv2d(4, 4, 1).to(torch.bfloat16).requires_grad_(False)
    dtypes = []

    def call(net: Any, x: Tensor, t: Tensor) -> Tensor:
        dtypes.append((x.dtype, t.dtype))
        output: Tensor = net(x)
        return output

    denoise = Denoiser.wrap(net, prediction="x0", schedule=FLOW, call=NetworkCall(function=call))
    assert denoise.over(solver_on(FLOW).nodes, NOISE.float())(NOISE.float(), 0).dtype == torch.float32
    assert dtypes == [(torch.bfloat16, torch.float32)]


def test_it_is_sampled_with_any_solver_and_adaptively() -> None:
    """The end of the ODE of Gaussian data is known: x0 = m + s x / sqrt(sigma^2 + s^2) for alpha = 1."""

    def network(x: Tensor, sigma: Tensor) -> Tensor:
        return posterior(x, 1.0, float(sigma[0]))

    denoise = Denoiser.wrap(network, prediction="x0", schedule=KARRAS, time="sigma_ve")
    exact = MEAN + VARIANCE**0.5 * (20 * NOISE - MEAN) / math.sqrt(20**2 + VARIANCE)
    ramp = torch.linspace(20 ** (1 / 7), 0.002 ** (1 / 7), 120, dtype=torch.float64) ** 7
    fixed = sample(make_solver("dpmpp3m", Grid.from_t(KARRAS, [*ramp.tolist(), 0.0])), denoise, NOISE)
    assert (fixed.x - exact).abs().max() < 1e-3
    free = sample(Adaptive(KARRAS, 20.0, 1e-3, rtol=1e-6, atol=1e-6, clean=True), denoise, NOISE)
    assert (free.x - exact).abs().max() < 1e-3
