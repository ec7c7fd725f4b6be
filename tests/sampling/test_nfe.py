"""Partly cached evaluations count with the share of the network's multiplications that they execute."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import _get_current_dispatch_mode

from sadaflow import Mode, sample
from sadaflow.accelerators import Capabilities, PlainRun
from sadaflow.bench.run.uncounted import Uncounted
from sadaflow.models import Seam, Site
from sadaflow.solvers import Grid, RectifiedFlow, Solver, make_solver

STEPS, WIDTH, LENGTH = 6, 4, 5
SITE = Site("trunk", "trunk", 0, (1, LENGTH))
# Operations of a sample: the projection outside the cached part; self-attention and a convolution inside.
OUTSIDE = 2 * LENGTH * WIDTH * WIDTH
INSIDE = 2 * 2 * LENGTH * LENGTH * WIDTH + 2 * LENGTH * WIDTH * WIDTH * 3
SHARE = OUTSIDE / (OUTSIDE + INSIDE)


class Network:
    """A projection, then attention and a convolution within a site; x is (B, LENGTH, WIDTH)."""

    def __init__(self) -> None:
        self.counted: list[bool] = []

    def __call__(self, x: Tensor, step: int) -> Tensor:
        raise AssertionError("evaluate is there")

    def evaluate(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam) -> Tensor:
        self.counted.append(_get_current_dispatch_mode() is not None)
        return seam(SITE, self.inside, x @ (0.1 * torch.eye(WIDTH)))

    def inside(self, hidden: Tensor) -> Tensor:
        heads = hidden[:, None]
        attended = F.scaled_dot_product_attention(heads, heads, heads)[:, 0]
        return F.conv1d(attended.mT, torch.ones(WIDTH, WIDTH, 3) / 40, padding=1).mT


@dataclass
class Scripted:
    """Plans as told, and inside the network computes in full whom it is told."""

    plans: Sequence[Sequence[Mode]]
    full: dict[int, Sequence[int]] = field(default_factory=dict)

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> PlainRun:
        return _Run(self, shape[0])


class _Run(PlainRun):
    def __init__(self, script: Scripted, samples: int) -> None:
        super().__init__(samples)
        self.script = script

    def plan(self, step: int) -> Sequence[Mode]:
        return self.script.plans[step]

    def carried_out(self, step: int, rows: Sequence[int]) -> Sequence[Mode]:
        return [Mode.FULL if row in self.script.full.get(step, ()) else Mode.CACHED for row in rows]

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        def seam(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            needed = [i for i, row in enumerate(rows) if mode is Mode.FULL or row in self.script.full.get(step, ())]
            answer = hidden.clone()
            if needed:
                answer[needed] = fn(hidden[needed])
            return answer

        return seam


def solver() -> Solver:
    times = torch.linspace(0.999, 0.0, STEPS + 1, dtype=torch.float64)
    return make_solver("euler", Grid.from_t(RectifiedFlow(), times))


F_, C = Mode.FULL, Mode.CACHED


@pytest.mark.parametrize(
    ("plans", "full", "nfe"),
    [
        ([[F_, F_], [C, C], [F_, F_], [C, F_], [C, C], [F_, F_]], {}, [3 + 3 * SHARE, 4 + 2 * SHARE]),
        # decided inside, and the first call with a cached sample holds a full one as well
        ([[C, C]] * 6, {0: [0, 1], 1: [1], 3: [0, 1], 4: [0]}, [3 + 3 * SHARE, 3 + 3 * SHARE]),
        ([[F_, F_], [F_, C], [C, F_], [C, C], [F_, F_], [F_, F_]], {2: [0]}, [5 + SHARE, 4 + 2 * SHARE]),
    ],
)
def test_nfe_is_the_share_of_the_operations(
    plans: list[list[Mode]], full: dict[int, list[int]], nfe: list[float]
) -> None:
    noise = torch.randn(2, LENGTH, WIDTH, generator=torch.Generator().manual_seed(0))
    stats = sample(solver(), Network(), noise, Scripted(plans, full)).stats
    assert stats.nfe == pytest.approx(nfe, rel=1e-12)
    for row, line in enumerate(stats.modes):
        carried = [F_ if plan[row] is F_ or row in full.get(step, ()) else C for step, plan in enumerate(plans)]
        assert line == [mode.value for mode in carried]


def test_nothing_is_counted_without_need() -> None:
    """Once each of a full and a cached evaluation; not at all where nothing can be cached."""
    noise = torch.randn(1, LENGTH, WIDTH, generator=torch.Generator().manual_seed(0))
    network = Network()
    sample(solver(), network, noise)
    sample(solver(), network, noise, "uniform")
    assert not any(network.counted)
    network = Network()
    sample(solver(), network, noise, Scripted([[F_], [F_], [C], [F_], [C], [F_]]))
    assert network.counted == [True, False, True, False, False, False]


def test_what_is_timed_is_not_counted() -> None:
    noise = torch.randn(2, LENGTH, WIDTH, generator=torch.Generator().manual_seed(0))
    scripted, network = Scripted([[F_, F_], [C, C], [F_, F_], [C, F_], [C, C], [F_, F_]], {1: [1]}), Network()
    timed = sample(solver(), network, noise, Uncounted(scripted))
    assert not any(network.counted)
    assert torch.equal(timed.x, sample(solver(), Network(), noise, scripted).x)


def test_a_cache_that_nothing_has_filled() -> None:
    with pytest.raises(ValueError, match="took from a cache before any sample had been evaluated in full"):
        sample(solver(), Network(), torch.randn(1, LENGTH, WIDTH), Scripted([[C]] * 6))


def test_a_run_declares_by_its_methods_that_it_caches() -> None:
    assert _Run(Scripted([]), 1).capabilities == Capabilities(caches=True)
    assert PlainRun(1).capabilities == Capabilities()


class Fused(Network):
    """The cached part is an operator of an extension, whose multiplications no counter sees."""

    def __init__(self, fused: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inside = fused  # type: ignore[method-assign]


@torch.library.custom_op("sadaflow_tests::linear", mutates_args=())
def fused_linear(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight


@torch.library.custom_op("sadaflow_tests::attend", mutates_args=())
def fused_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value)


@torch.library.custom_op("sadaflow_tests::norm", mutates_args=())
def fused_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True) * weight


PROJECTION = 2 * LENGTH * WIDTH * WIDTH
HALF_CACHED = [[F_], [C], [F_], [C], [F_], [F_]]


@pytest.mark.parametrize(
    ("fused", "operations"),
    [
        (lambda hidden: fused_linear(hidden, torch.ones(WIDTH, WIDTH)), PROJECTION),
        (lambda hidden: fused_linear(hidden, torch.ones(WIDTH, 3 * WIDTH))[..., :WIDTH], 3 * PROJECTION),
        (lambda hidden: fused_attention(hidden, hidden, hidden), 2 * 2 * LENGTH * LENGTH * WIDTH),
    ],
    ids=["linear", "linear-wide", "attention"],
)
def test_operators_of_extensions_are_estimated_with_a_warning(
    fused: Callable[[Tensor], Tensor], operations: int
) -> None:
    noise = torch.randn(1, LENGTH, WIDTH, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match=r"stats.nfe counts .* sadaflow_tests\S* were estimated from shapes"):
        stats = sample(solver(), Fused(fused), noise, Scripted(HALF_CACHED)).stats
    assert stats.nfe == pytest.approx([4 + 2 * PROJECTION / (PROJECTION + operations)], rel=1e-12)


def test_operators_of_extensions_that_multiply_nothing_do_not_count() -> None:
    noise = torch.randn(1, LENGTH, WIDTH, generator=torch.Generator().manual_seed(0))
    fused = Fused(lambda hidden: fused_norm(hidden, torch.ones(WIDTH)))
    assert sample(solver(), fused, noise, Scripted(HALF_CACHED)).stats.nfe == pytest.approx([6], rel=1e-12)


class Hidden(Network):
    """Multiplies nowhere that can be seen."""

    def evaluate(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam) -> Tensor:
        return seam(SITE, lambda hidden: torch.tanh(torch.sin(torch.cos(hidden))), 0.5 * x)


def test_without_any_count_the_elements_written_are_compared() -> None:
    noise = torch.randn(1, LENGTH, WIDTH, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="compared by the elements written"):
        nfe = sample(solver(), Hidden(), noise, Scripted(HALF_CACHED)).stats.nfe
    assert 4 < nfe[0] < 6


def test_packed_weights_are_estimated() -> None:
    packed = torch.ops.quantized.linear_prepack(
        torch.quantize_per_tensor(torch.ones(2 * WIDTH, WIDTH), 0.1, 0, torch.qint8), None
    )
    noise = torch.randn(1, LENGTH, WIDTH, generator=torch.Generator().manual_seed(0))
    fused = Fused(lambda hidden: torch.ops.quantized.linear_dynamic(hidden, packed)[..., :WIDTH])
    with pytest.warns(UserWarning, match=r"quantized\S*linear_dynamic were estimated"):
        stats = sample(solver(), fused, noise, Scripted(HALF_CACHED)).stats
    assert stats.nfe == pytest.approx([4 + 2 / 3], rel=1e-12)
