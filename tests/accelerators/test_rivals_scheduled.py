"""ZEUS, Spectrum and MeanCache: steps and predictions against loops written out here, over recorded trajectories."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from sadaflow import Pipeline
from sadaflow.accelerators import Accelerator, MeanCache, Spectrum, Zeus, make_accelerator
from sadaflow.accelerators.skipping.meancache import _orders_of_steps
from sadaflow.accelerators.steps.published import published_mask
from sadaflow.checks import check_accelerator
from sadaflow.solvers import Grid, RectifiedFlow, make_solver
from support.records import Array, Record

Expected = Iterator[tuple[str, Array | None]]
STEPS = 24


def polynomial(at: list[float], values: list[Array], where: float) -> Array:
    """By Neville's scheme."""
    values = list(values)
    for width in range(1, len(at)):
        for i in range(len(at) - width):
            left, right = at[i], at[i + width]
            values[i] = ((where - right) * values[i] + (left - where) * values[i + 1]) / (left - right)
    return values[0]


def log_snr(record: Record) -> list[float]:
    return list(np.log(record.alpha / record.sigma))


def zeus(record: Record, start: int, middle: int, end: int, interval: int, terms: int, way: str = "reuse") -> Expected:
    """The authors' loop: flags set after each step, lists of what was used; denominator 3, remainders 0 and 1."""
    used: list[Array] = []
    clean: list[tuple[int, Array]] = []
    skip = multistep = False
    in_a_row, held, extrapolated = 0, record.v[0], record.v[0]
    for i in range(record.steps):
        if not skip:
            held, in_a_row = record.v[i], 0
            if used:
                extrapolated = 2 * held - used[-1]
            used.append(held)
            x0 = record.x0[i]
            yield "full", None
        else:
            in_a_row += 1
            value = extrapolated if way == "all" or in_a_row % 2 == 1 else held
            if way == "none":
                value = held
            used.append(value)
            x0 = record.x0_of(value, i)
            if multistep and clean:
                nodes = clean[-terms:]
                x0 = polynomial([float(step) for step, _ in nodes], [one for _, one in nodes], float(i))
            yield "multistep" if multistep else "reused", x0
            used[-1] = record.v[i]
        if i % interval == 1:
            clean.append((i, x0))
        if in_a_row == 4:
            skip = multistep = False
        elif i < 1:
            skip = False
        elif start <= i < middle:
            skip, multistep = i % 3 in (0, 1), False
        elif middle <= i < end:
            skip, multistep = i % interval != 0, True
        else:
            skip = False


def zeus_with_true_gaps(record: Record, interval: int, terms: int) -> Expected:
    """The same steps; lines and polynomials in log-SNR through evaluations alone."""
    at = log_snr(record)
    done: list[int] = []
    modes = [mode for mode, _ in zeus(record, 5, 12, 22, interval, terms)]
    for i, mode in enumerate(modes):
        if mode == "full":
            done.append(i)
            yield mode, None
        elif mode == "multistep":
            nodes = done[-terms:]
            yield mode, polynomial([at[one] for one in nodes], [record.x0[one] for one in nodes], at[i])
        elif (i - done[-1]) % 2 == 1:
            nodes = done[-2:]
            line = polynomial([at[one] for one in nodes], [record.v[one] for one in nodes], at[i])
            yield mode, record.x0_of(line, i)
        else:
            yield mode, record.x0_of(record.v[done[-1]], i)


def spectrum(record: Record, degree: int, ridge: float, blend: float, flex: float, warmup: int, last: int) -> Expected:
    """The published loop of windows, and numpy's least squares with the ridge as rows."""
    done: list[int] = []
    window, skipped = 2.0, 0
    for i in range(record.steps):
        if i < warmup:
            compute = True
        else:
            compute = (skipped + 1) % int(window) == 0
            if compute:
                window, skipped = round(window + flex, 3), 0
            else:
                skipped += 1
        if compute or i >= record.steps - last:
            done.append(i)
            yield "full", None
            continue
        time = [2 * one / (record.steps - 1) - 1 for one in (*done, i)]
        basis = np.polynomial.chebyshev.chebvander(time, degree)
        rows = np.concatenate((basis[:-1], np.sqrt(ridge) * np.eye(degree + 1)))
        values = np.stack([record.v[one].ravel() for one in done])
        coefficients = np.linalg.lstsq(
            rows, np.concatenate((values, np.zeros((degree + 1, values.shape[1])))), rcond=None
        )
        fit = (basis[-1] @ coefficients[0]).reshape(record.v[i].shape)
        newest, before = record.v[done[-1]], record.v[done[-2]]
        line = newest + (i - done[-1]) / (done[-1] - done[-2]) * (newest - before)
        yield "reused", record.x0_of(blend * fit + (1 - blend) * line, i)


def meancache(record: Record, mask: str, orders: dict[int, int], published: bool) -> Expected:
    """On the states z = x / alpha and times u = sigma / alpha of eps, or x and t of the flow velocity."""
    scale = np.ones(record.steps) if record.flow else record.alpha
    u = np.append(record.sigma / scale, 0.0)
    z = [record.x[i] / scale[i] for i in range(record.steps)]
    noise = [(record.x[i] - record.alpha[i] * record.x0[i]) / record.sigma[i] for i in range(record.steps)]
    v = [eps - x0 if record.flow else eps for eps, x0 in zip(noise, record.x0, strict=True)]
    done: list[int] = []
    for i in range(record.steps):
        if mask[i] == "1":
            done.append(i)
            yield "full", None
            continue
        order = orders[i]
        if published:
            a = max(0, i - order)
            mean = (z[i] - z[a]) / (u[i] - u[a])
            velocity = v[i - 1] - (v[a] - mean) / (u[i] - u[a]) * (u[i + 1] - u[i])
        else:
            t, r = done[-1], done[max(0, len(done) - order)]
            end = next((later for later in range(i, record.steps) if mask[later] == "1"), record.steps)
            velocity = v[t]
            if r != t:
                jump = (z[t] - z[r] - (u[t] - u[r]) * v[r]) / (u[t] - u[r]) ** 2
                velocity = v[t] + (u[end] - u[t]) * jump
        clean = record.x[i] - u[i] * velocity if record.flow else z[i] - u[i] * velocity
        yield "reused", clean


MASK = "111011001110001000010001"
ORDERS = {step: 2 if step < 10 else 1 if step < 20 else 4 for step in range(STEPS)}
FRACTIONS = {"start": 5 / 24, "polynomial_start": 0.5, "end": 22 / 24}


@pytest.fixture(scope="module", params=["tiny-sd", "tiny-flux"])
def pipe(request: pytest.FixtureRequest) -> Pipeline:
    return Pipeline.from_pretrained(request.param)


@pytest.mark.parametrize(
    ("accelerator", "rule"),
    [
        (Zeus(**FRACTIONS, interval=8, released=True), lambda record: zeus(record, 5, 12, 22, 4, 4)),
        (
            Zeus(**FRACTIONS, interval=8, terms=2, way="extrapolated", released=True),
            lambda record: zeus(record, 5, 12, 22, 4, 2, "all"),
        ),
        (
            Zeus(start=5 / 24, polynomial_start=22 / 24, end=22 / 24, way="held", released=True),
            lambda record: zeus(record, 5, 22, 22, 2, 4, "none"),
        ),
        (Zeus(**FRACTIONS, interval=8), lambda record: zeus_with_true_gaps(record, 4, 4)),
        (Spectrum(last=0), lambda record: spectrum(record, 4, 0.1, 0.5, 0.75, 5, 0)),
        (Spectrum(3, 1.0, 0.4, flex=0.5, warmup=4), lambda record: spectrum(record, 3, 1.0, 0.4, 0.5, 4, 1)),
        (MeanCache(MASK, (2, 2, 1, 4)), lambda record: meancache(record, MASK, ORDERS, False)),
        (MeanCache(MASK, (2, 2, 1, 4), released=True), lambda record: meancache(record, MASK, ORDERS, True)),
    ],
    ids=[
        "zeus-released",
        "zeus-all",
        "zeus-held",
        "zeus",
        "spectrum",
        "spectrum-cpp",
        "meancache",
        "meancache-released",
    ],
)
def test_steps_and_predictions_are_those_of_the_formulas(
    pipe: Pipeline, accelerator: Accelerator, rule: Callable[[Record], Expected]
) -> None:
    flow = pipe.prediction == "flow_prediction"
    out = pipe(
        ["hot dog", "tree"], steps=STEPS, guidance=1.0, seed=[100, 7], accelerator=accelerator, trace=True,
        solver="euler", output="latent",
    )  # fmt: skip
    assert out.trace is not None
    for row, nfe in enumerate(out.stats.nfe):
        record = Record(out.trace, row, flow)
        expected = list(rule(record))
        assert list(record.modes) == [mode for mode, _ in expected]
        assert nfe == record.modes.count("full") and 4 <= nfe <= 20
        for i, (_, x0) in enumerate(expected):
            if x0 is not None:
                np.testing.assert_allclose(record.x0[i], x0, rtol=0, atol=3e-4 * np.abs(x0).max())


def computed(settings: Zeus, steps: int = 50) -> tuple[bool, ...]:
    skipped = settings.skipped_steps(steps)
    return tuple(step not in skipped for step in range(steps))


def test_zeus_settings_lead_to_the_published_sets() -> None:
    wan = {"start": 0.16, "end": 0.94, "max_skips": 6}
    assert computed(Zeus()) == published_mask("zeus-sd", 50)
    assert computed(Zeus(interval=6, terms=3)) == published_mask("zeus-flux", 50)
    assert computed(Zeus(**wan)) == published_mask("zeus-wan", 50)
    assert computed(Zeus(**wan, interval=6, terms=3)) == published_mask("zeus-cogvideox", 50)
    assert sum(computed(Zeus(polynomial_start=0.9))) == 27
    assert sum(computed(Zeus(2, (1,), polynomial_start=0.94, end=0.94))) == 32
    for steps in (5, 8, 10, 20, 28, 30, 100):
        mask = computed(Zeus(start=0.0), steps)
        assert all(mask[:3]) and mask[-1]


@pytest.mark.parametrize(("order", "expected"), [(1, 3.0), (2, 3.25), (3, 10 / 3)])
def test_meancache_by_hand(order: int, expected: float) -> None:
    """Velocities 1, 2, 3 on an even grid, and what the published code takes as the fourth."""
    grid = Grid.from_t(RectifiedFlow(), torch.linspace(0.9, 0.1, 9, dtype=torch.float64))
    solver = make_solver("euler", grid)
    x = torch.ones(1, 1, dtype=torch.float64)
    run = MeanCache("11101111", (order,), released=True).begin(solver, x.shape, seams=False)
    for step in range(3):
        sigma = solver.nodes[step].sigma
        run.observe(step, x, x - sigma * (step + 1), x, x)
        x = x - 0.1 * (step + 1)
    velocity = (x - run.estimate(3, x, [0])) / solver.nodes[3].sigma
    assert float(velocity) == pytest.approx(expected)


def test_orders_are_spread_over_the_gaps() -> None:
    assert _orders_of_steps([True, True, False, True, False, False, True], (2, 5)) == [1, 1, 2, 1, 5, 5, 1]
    assert _orders_of_steps([True, False, True, False, True, False], (2, 5)) == [1, 2, 1, 2, 1, 5]
    assert _orders_of_steps([True, False, True], (3, 4, 5)) == [1, 3, 1]


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (Zeus, "remainders", (3,)),
        (Zeus, "remainders", (-1,)),
        (Zeus, "way", "mixed"),
        (MeanCache, "orders", (0,)),
        (MeanCache, "orders", (1.5,)),
        (MeanCache, "evaluated", "most"),
        (Spectrum, "blend", 1.1),
        (Spectrum, "end", 1.1),
    ],
)
def test_settings(kind: Any, field: str, value: Any) -> None:
    assert make_accelerator(kind.__name__.lower()) == kind()
    with pytest.raises(ValueError, match=field if kind is not MeanCache or field == "orders" else "unknown set"):
        kind(**{field: value})


@pytest.mark.slow
@pytest.mark.parametrize("factory", [Zeus, Spectrum, MeanCache, lambda: MeanCache(released=True)])
def test_they_pass_the_examination(factory: Callable[[], Accelerator]) -> None:
    check_accelerator(factory, solvers=("dpmpp2m", "heun", "midpoint", "dpmpp2m-sde"))
