"""The first table of docs/trajectories.md: how the trajectories of the embedded checkpoints differ.

    python docs/scripts/measure_trajectories.py tiny-sd tiny-flux tiny-dit

20 samples of Euler's method in 50 steps: the prompts of the model cards, or every class in turn.
"""

import math
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from sadaflow.families import Request
from sadaflow.families.hooks import with_texts
from sadaflow.pipeline import Pipeline
from sadaflow.sampling.trace import Trace
from sadaflow.training.data.captions import CARD_PROMPTS
from sadaflow.training.data.scenes import CLASSES

SAMPLES, STEPS, BATCH = 20, 50, 10
LEVELS = (-3.0, -1.0, 1.0, 3.0)
"""Values of log-SNR at which the distance to the final picture is shown."""


def trajectories(pipe: Pipeline) -> tuple[Tensor, Tensor]:
    """x0 (B, N, D) of plain samples, and log-SNR (N,)."""
    by_class = "class_labels" in pipe.family.options
    texts = [list(CLASSES)[i % len(CLASSES)] if by_class else CARD_PROMPTS[i] for i in range(SAMPLES)]
    parts: list[Trace] = []
    for first in range(0, SAMPLES, BATCH):
        request = Request(seed=list(range(first, first + BATCH)), steps=STEPS, solver="euler", accelerator=None)
        request = with_texts(request, pipe.family, texts[first : first + BATCH])
        out = pipe(**request.arguments(), trace=True, output="latent", progress=False)
        assert out.trace is not None
        parts.append(out.trace)
    return torch.cat([part.x0 for part in parts]).flatten(2).double(), parts[0].log_snr


def distances(x0: Tensor, log_snr: Tensor) -> list[float]:
    """Mean over samples of |x0 - final x0| / |final x0| at `LEVELS`."""
    errors = (x0 - x0[:, -1:]).norm(dim=2) / x0[:, -1:].norm(dim=2)
    return [float(errors[:, (log_snr - level).abs().argmin()].mean()) for level in LEVELS]


def memories(x0: Tensor, log_snr: Tensor) -> Tensor:
    """Distance in log-SNR over which the direction of dx0/dlog_snr is forgotten, (B,).

    The cosine between the velocities of two steps is averaged over pairs at similar distances; the memory is the first
    distance at which the mean falls below 1/e.
    """
    known = log_snr.isfinite()
    x0, log_snr = x0[:, known], log_snr[known]
    velocity = x0.diff(dim=1) / log_snr.diff()[:, None]
    unit = velocity / velocity.norm(dim=2, keepdim=True)
    cosines, middles = unit @ unit.mT, (log_snr[1:] + log_snr[:-1]) / 2
    bins = ((middles[:, None] - middles).abs() / 0.1).long()
    found = []
    for sample in cosines:
        means = [float(sample[bins == index].mean()) for index in range(int(bins.max())) if (bins == index).any()]
        found.append(next((0.1 * index for index, mean in enumerate(means) if mean < 1 / math.e), math.inf))
    return torch.tensor(found)


def line_errors(x0: Tensor, log_snr: Tensor) -> Tensor:
    """|x0 - x0 on the line in log-SNR through the two steps before| / |x0|, root mean square over steps, (B,)."""
    part = (log_snr[2:] - log_snr[1:-1]) / (log_snr[1:-1] - log_snr[:-2]).clamp(min=1e-9)
    part[~part.isfinite()] = 0
    guess = x0[:, 1:-1] + part[:, None] * (x0[:, 1:-1] - x0[:, :-2])
    errors = (guess - x0[:, 2:]).norm(dim=2) / x0[:, 2:].norm(dim=2)
    return errors.square().mean(dim=1).sqrt()


def gains(pipe: Pipeline) -> Tensor:
    """How many times an error of x0 grows beyond its weight in the solver's step, by the shipped calibration, (N,)."""
    solver = pipe.solver("euler", STEPS)
    held = next(found for found in pipe.calibrations.held if found.misfit(solver) is None)
    ratios = torch.tensor([node.log_snr for node in solver.nodes]).neg().exp().double()
    weights = 1 - torch.cat((ratios[1:], torch.zeros(1))) / ratios
    weights[ratios.isinf()] = 1.0
    return torch.tensor(held.gains) / weights


def spread(values: Tensor) -> str:
    """Mean, and the coefficient of variation over samples."""
    return f"{float(values.mean()):.2g}, {float(values.std() / values.mean()):.0%}"


def column(model: str) -> list[str]:
    pipe = Pipeline.from_pretrained(model)
    x0, log_snr = trajectories(pipe)
    grown = gains(pipe)
    steps = x0.diff(dim=1).norm(dim=2).sum(dim=1) / (x0[:, -1] - x0[:, 0]).norm(dim=1)
    return [
        " / ".join(f"{value:.2f}" for value in distances(x0, log_snr)),
        spread(steps),
        spread(memories(x0, log_snr)),
        spread(line_errors(x0, log_snr)),
        f"{float(grown.median()):.2g} / {float(grown.max()):.2g}",
    ]


def main(models: Sequence[str]) -> None:
    torch.set_grad_enabled(False)
    rows = [
        f"distance of x0 to the final x0, at log-SNR {' / '.join(f'{level:g}' for level in LEVELS)}",
        "length of the path of x0, per distance",
        "memory of the direction of x0, in log-SNR",
        "error of a line through two steps",
        "growth of an error, median / largest",
    ]
    columns = [column(model) for model in models]
    print("| | " + " | ".join(models) + " |\n" + "|---" * (len(models) + 1) + "|")
    for row, cells in zip(rows, zip(*columns, strict=True), strict=True):
        print(f"| {row} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main(sys.argv[1:] or ["tiny-sd", "tiny-flux", "tiny-dit"])
