"""FasterCache's cache of guidance against the published loop with numpy's FFT, call by call."""

from typing import Any

import numpy as np
import pytest
import torch

from sadaflow.accelerators import FasterGuidance, Mode, make_accelerator
from sadaflow.accelerators.skipping.faster_guidance import low_square
from sadaflow.checks import check_accelerator
from sadaflow.checks.runs import solver_of

STEPS, SIZE = 20, (10, 15)


def split(x: Any, radius: int) -> tuple[Any, Any]:
    """Low and high frequencies by a square in the middle of the shifted spectrum."""
    mask = np.zeros(x.shape[-2:])
    middle = [count // 2 for count in mask.shape]
    mask[middle[0] - radius : middle[0] + radius, middle[1] - radius : middle[1] + radius] = 1
    spectrum = np.fft.fftshift(np.fft.fft2(x), axes=(-2, -1))
    back = [
        np.fft.ifft2(np.fft.ifftshift(part, axes=(-2, -1))).real for part in (spectrum * mask, spectrum * (1 - mask))
    ]
    return back[0], back[1]


@pytest.mark.parametrize("released", [False, True])
def test_bands_are_multiplied_as_in_the_published_loop(released: bool) -> None:
    solver = solver_of("euler", STEPS, "vp")
    settings = FasterGuidance(every=4, start=0.4, low=1.2, high=1.3, low_until=0.75, high_from=0.6, released=released)
    run = settings.begin(solver, torch.Size((2, 3, *SIZE)), seams=True)
    generator, modes = torch.Generator().manual_seed(0), []
    low, high = np.zeros(0), np.zeros(0)
    for step, node in enumerate(solver.nodes):
        plan = run.plan(step)
        modes.append(plan[0])
        assert plan[0] is plan[1]
        factor = -node.alpha / node.sigma  # of the difference of eps per difference of x0
        if plan[0] is Mode.FULL:
            difference = torch.randn(2, 3, *SIZE, generator=generator, dtype=torch.float64)
            run.learn_guidance(step, [0, 1], difference)
            low, high = split(difference.numpy() * factor, 2)
            continue
        by_low = 1.2 if 0.1 <= step / STEPS < 0.75 else 1.0
        by_high = 1.3 if step / STEPS >= 0.6 else 1.0
        made = by_low * low + by_high * high
        if released:
            low, high = by_low * low, by_high * high
        np.testing.assert_allclose(run.guidance(step, [0, 1]), made / factor, rtol=1e-6, atol=1e-9)
    full = [step for step, mode in enumerate(modes) if mode is Mode.FULL]
    assert full == [*range(8), 11, 15, 18, 19]


def test_each_sample_has_factors_of_its_own() -> None:
    solver = solver_of("euler", STEPS, "vp")
    difference = torch.ones(2, 1, *SIZE, dtype=torch.float64)  # low frequencies alone
    run = FasterGuidance(released=True, high=1.0, start=0.0).begin(solver, torch.Size((2, 1, *SIZE)), seams=True)
    run.learn_guidance(3, [0, 1], difference)
    run.guidance(4, [0])
    both = run.guidance(5, [0, 1])[:, 0, 0, 0]
    assert float(both[0] / both[1]) == pytest.approx(1.1)


def test_the_square_and_the_settings() -> None:
    x = torch.randn(1, 2, *SIZE, generator=torch.Generator().manual_seed(1))
    np.testing.assert_allclose(low_square(x, 3), split(x.numpy(), 3)[0], atol=1e-5)
    assert not low_square(x, 0).any()
    assert make_accelerator("faster-guidance") == FasterGuidance()
    for field in ("low", "high"):
        assert getattr(FasterGuidance(**{field: 0.0}), field) == 0
        with pytest.raises(ValueError, match=rf"FasterGuidance\.{field} must be at least 0"):
            FasterGuidance(**{field: -1e-12})
    for field in ("low_until", "high_from", "radius", "start"):
        with pytest.raises(ValueError, match=field):
            FasterGuidance(**{field: 1 + 1e-12})
    with pytest.raises(ValueError, match="needs at least 4 steps, got 3"):
        FasterGuidance().begin(solver_of("euler", 3), torch.Size((1, 2, 4, 4)), seams=True)


@pytest.mark.slow
def test_it_passes_the_examination() -> None:
    """Without the enhancement, which is meant to leave the plain samples."""
    plain = {"low": 1.0, "high": 1.0}
    never = lambda: FasterGuidance(every=1, **plain)  # noqa: E731
    check_accelerator(lambda: FasterGuidance(**plain), never=never, solvers=("euler", "heun"))
