"""What `Denoiser.wrap` refuses, before the first evaluation, and in which words."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sadaflow import Denoiser, Guided, NetworkCall, Seams, sample
from sadaflow.solvers import EDM, Grid, Preconditioned, RectifiedFlow, make_solver

FLOW = RectifiedFlow()
SOLVER = make_solver("euler", Grid.from_t(FLOW, [1.0, 0.5, 0.0]))
NOISE = torch.zeros(2, 4, 2, 2)
LABELS = torch.tensor([1, 2])


class Net(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Dropout(dropout))
        self.labels = nn.Embedding(5, 4)
        self.called = 0
        self.requires_grad_(False)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.called += 1
        return self.body(x) + self.labels(y)[:, :, None, None]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prediction": "noise"}, "unknown prediction type 'noise'; known are epsilon"),
        ({"prediction": "v"}, "v_prediction needs alpha\\^2 \\+ sigma\\^2 = 1"),
        ({"time": "step"}, "unknown time='step'; known are timestep, t, 1-t"),
        (
            {"conditioning": {}},
            r"Net\(x.*, t.*, y.*\).* cannot be called with \(x, time\): missing a required argument",
        ),
        ({"conditioning": {"y": LABELS, "z": LABELS}}, "unexpected keyword argument 'z'"),
        ({"conditioning": {"y": 3}}, r"conditioning\['y'\] must be a tensor with a row for each sample, got 3"),
        ({"conditioning": {"y": LABELS, "z": torch.zeros(3)}}, "different numbers of samples: {'y': 2, 'z': 3}"),
        ({"guidance": 4.0}, r"guidance=4 needs a negative branch: give a null label, as Guided\(scale, negative="),
        ({"guidance": Guided(4.0, {"label": 5})}, "Guided.negative names 'label', which conditioning lacks: y"),
        ({"guidance": Guided(4.0, {"y": torch.zeros(3)})}, r"Guided.negative\['y'\] has the shape \(3,\)"),
        ({"guidance": Guided(4.0, {"y": 0}, channels=0)}, "Guided.channels must be at least 1"),
        ({"seams": Seams(blocks="layers")}, "Seams.blocks='layers' fits no submodule; the submodules of Net are body"),
        ({"seams": Seams(blocks="body", attention="attn")}, "'attn' is not a submodule of body.0"),
        ({"seams": Seams(deep=("body", "mid"))}, "Seams.deep names 'mid', which is not a submodule"),
    ],
)
def test_wrap_refuses_by_name(changes: dict[str, Any], words: str) -> None:
    net = Net()
    given: dict[str, Any] = {"prediction": "flow", "schedule": FLOW, "conditioning": {"y": LABELS}}
    with pytest.raises(ValueError, match=words):
        Denoiser.wrap(net, **{**given, **changes})
    assert net.called == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "Seams needs blocks="),
        ({"blocks": "a", "deep": ("b", "c")}, "and not both"),
        ({"deep": "abc"}, "Seams.deep must be two names"),
        ({"deep": ("a", "b"), "attention": "c"}, "belong to blocks="),
        ({"blocks": "a", "prefix": -1}, "Seams.prefix must be at least 0"),
    ],
)
def test_seams_that_say_nothing_or_too_much(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Seams(**given)


def refused(words: str, net: Any, solver: Any = SOLVER, noise: Tensor = NOISE, **changes: Any) -> None:
    given: dict[str, Any] = {"prediction": "flow", "schedule": FLOW, "conditioning": {"y": LABELS}, **changes}
    with pytest.raises(ValueError, match=words):
        sample(solver, Denoiser.wrap(net, **given), noise)


def test_a_run_is_refused_before_its_first_evaluation() -> None:
    net = Net()
    refused(r"conditioning\['y'\] has 2 rows for 3 samples of noise", net, noise=torch.zeros(3, 4, 2, 2))
    other = make_solver("euler", Grid.from_t(EDM(), [80.0, 1.0, 0.0]))
    refused("the solver's grid is not on", net, solver=other)
    refused("epsilon does not determine x0 at alpha = 0", net, prediction="eps")
    refused("at evaluation 0 .*would be told -inf by time='log_snr'", net, time="log_snr")
    refused("the network is on meta, the noise on cpu", Net().to("meta"))
    refused(r"conditioning\['y'\] is on meta", net, conditioning={"y": LABELS.to("meta")})
    half = {"y": LABELS, "w": torch.zeros(2, dtype=torch.float16)}
    call = NetworkCall(function=lambda net, x, t, y, w: net(x, t, y))
    refused(
        r"conditioning\['w'\] is torch.float16, the network's weights are torch.float32",
        net,
        conditioning=half,
        call=call,
    )
    refused(r"training mode, and its Dropout \(body.1\)", Net(0.5))
    assert net.called == 0
    assert Denoiser.wrap(Net(0.5).eval(), prediction="flow", schedule=FLOW, conditioning={"y": LABELS}) is not None


def test_a_wrong_output_is_refused_at_the_first_evaluation() -> None:
    plain: dict[str, Any] = {"conditioning": {}}
    refused(r"returns the shape \(2, 3, 2, 2\) for x of \(2, 4, 2, 2\)", lambda x, t: x[:, :3], **plain)
    refused("returns a str, in which no prediction is found", lambda x, t: "x", **plain)
    refused("returns a dict, in which no prediction is found at output='x0'", lambda x, t: {"eps": x}, **plain,
            call=NetworkCall(output="x0"))  # fmt: skip
    refused(r"no entry for one of \{.*'y': \[7, 7, 7, 7\]\}", Net(), guidance=Guided(2.0, {"y": 7}),
            conditioning={"y": torch.tensor([7, 7])})  # fmt: skip


def test_a_denoiser_that_was_never_bound_says_so() -> None:
    denoise = Denoiser.wrap(lambda x, t: x, prediction="flow", schedule=FLOW)
    with pytest.raises(ValueError, match=r"not bound to nodes: call sample\(\), or denoiser.over\(solver.nodes\)"):
        denoise(NOISE, 0)
    assert Denoiser.wrap(lambda x, t: x, prediction=Preconditioned(), schedule=EDM()).time == "c_noise"
