"""The tables of docs/sada.md on token-wise pruning: fidelity lost on the embedded checkpoints, seconds at real sizes.

    python docs/scripts/measure_tokens.py fidelity
    python docs/scripts/measure_tokens.py seconds [--device cuda] [--repeats 3]

The prompts are not those of the model card. Seconds are of networks with random weights, whose work is the same: on a
CPU the processor's, on one thread, so that other programs hardly touch them; ratios are medians of side-by-side runs.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from sadaflow import Accelerator, Auto, Pipeline, sample
from sadaflow.accelerators import Mode, PlainRun, TokenCache
from sadaflow.accelerators.base import Run
from sadaflow.accelerators.sada.criterion import extrapolate, instability, token_scores
from sadaflow.accelerators.sada.estimators import paper
from sadaflow.families import Request
from sadaflow.metrics import psnr
from sadaflow.models import FluxConfig, FluxTransformer, Seam, Site, UNet, UNetConfig, call_through
from sadaflow.pipeline.inputs import initial_noise, latent_shape
from sadaflow.sampling import GuidedDenoiser
from sadaflow.solvers import Solver

PROMPTS = ["hot dog", "fire", "tree", "blue heart"]
SEEDS = [100, 101, 102, 103]
STEPS = 50
SHARES = [0.125, 0.25, 0.5, 0.75]
KEYS = ["cached", "dropped"]
UNET = {  # Stable Diffusion 2.1, its levels `1/width` as wide
    "act_fn": "silu", "attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], "in_channels": 4, "layers_per_block": 2,
    "out_channels": 4, "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3, "use_linear_projection": True,
}  # fmt: skip


class Pruned:
    """The seam that prunes the `share` of the tokens with the lowest scores (B, h, w)."""

    def __init__(self, cache: TokenCache, rows: Sequence[int], scores: Tensor, share: float) -> None:
        ranked = scores.flatten(1)
        bound = ranked.sort(dim=1).values[:, round(share * ranked.shape[1])]
        self.seam = cache.pruning(rows, scores - bound[:, None, None], max(scores.shape), scores[0].numel())

    def __call__(self, site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
        return self.seam(site, fn, hidden, *args)


@dataclass(frozen=True)
class Alternating:
    """Every second evaluation of `inner` on a part of the tokens, from the fifth step to the last but one."""

    inner: Accelerator | None
    share: float
    keys: str
    choice: str
    patch: int
    depth: int = 0

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Run:
        inner = PlainRun(shape[0]) if self.inner is None else self.inner.begin(solver, shape, seams=seams)
        return AlternatingRun(self, inner, solver, shape[0])


class AlternatingRun(PlainRun):
    def __init__(self, settings: Alternating, inner: Run, solver: Solver, samples: int) -> None:
        super().__init__(samples)
        self.settings, self.inner, self.solver = settings, inner, solver
        self.estimate, self.revise = inner.estimate, inner.revise  # type: ignore[method-assign]
        self.cache = TokenCache(samples, settings.depth, keys=settings.keys)
        self.full = [False] * samples  # whether the newest evaluation was one
        self.velocities: tuple[Tensor, ...] = ()
        self.scores = torch.empty(0)
        self.generator = torch.Generator().manual_seed(0)

    def plan(self, step: int) -> list[Mode]:
        inside = 4 <= step < self.solver.n_evals - 1 and self.settings.share > 0
        modes = self.inner.plan(step)
        self.modes = [
            Mode.TOKENS if inside and mode is Mode.FULL and full else mode
            for mode, full in zip(modes, self.full, strict=True)
        ]
        return self.modes

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        if mode is Mode.FULL:
            return self.cache.filling(rows)
        return Pruned(self.cache, rows, self.scores[list(rows)], self.settings.share)

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        self.inner.observe(step, x, x0, y, x_next)
        self.full = [
            mode is Mode.FULL if mode.evaluates else full for mode, full in zip(self.modes, self.full, strict=True)
        ]
        self.velocities = (y, *self.velocities)[:3]
        if len(self.velocities) == 3 and step + 1 < self.solver.n_evals:
            t, end = self.solver.nodes[step].t, self.solver.nodes[step + 1].t
            predicted = extrapolate(x, self.velocities, end - t, paper((), end))
            scores = {
                "criterion": lambda: instability(x_next, predicted, self.velocities),
                "change": lambda: (y - self.velocities[1]).abs(),
                "random": lambda: torch.rand(x.shape, generator=self.generator),
            }[self.settings.choice]()
            self.scores = F.avg_pool2d(token_scores(scores), self.settings.patch)


@dataclass
class Compared:
    """A denoiser that also asks the whole network wherever tokens are pruned: `errors` are those of x0, relative."""

    whole: GuidedDenoiser
    accelerated: bool = False
    errors: list[float] = field(default_factory=list)

    def __call__(self, x: Tensor, step: int) -> Tensor:
        return self.whole(x, step)

    def evaluate(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam) -> Tensor:
        answer = self.whole.evaluate(x, step, rows, seam)
        if isinstance(seam, Pruned):
            exact = self.whole.evaluate(x, step, rows, call_through)
            self.errors.append(float((answer - exact).norm() / exact.norm()))
        return answer


def fidelity(model: str) -> None:
    pipe = Pipeline.from_pretrained(model)
    solver, shape = pipe.solver("euler", STEPS), latent_shape(pipe.family, None, None)
    whole = pipe.denoiser(solver, Request(PROMPTS))
    noise = initial_noise(shape, SEEDS)
    reference = pipe.family.decode(sample(solver, whole, noise).x)

    def measured(accelerator: Accelerator | None) -> tuple[str, str, float]:
        """Relative error of pruned evaluations, PSNR mean / worst, cost with a pruned evaluation as its tokens."""
        denoise = Compared(whole)
        out = sample(solver, denoise, noise, accelerator)
        values = psnr(pipe.family.decode(out.x), reference)
        spared = accelerator.share if isinstance(accelerator, Alternating) else 0.0
        modes = [mode for line in out.stats.modes for mode in line]
        cost = (modes.count("full") + (1 - spared) * modes.count("tokens")) / len(PROMPTS)
        error = f"{100 * statistics.mean(denoise.errors):.1f} %" if denoise.errors else "-"
        return error, f"{float(values.mean()):.1f} / {float(values.min()):.1f}", cost

    patch = pipe.family.patch
    print(f"\n{model}, {STEPS} steps of Euler, every second evaluation pruned\n")
    print("| pruned | chosen by | " + " | ".join(f"{keys}: error | {keys}: PSNR" for keys in KEYS) + " |")
    print("|---" * (2 + 2 * len(KEYS)) + "|")
    for choice in ("criterion", "random", "change"):
        for share in SHARES[1:]:
            cells = [measured(Alternating(None, share, keys, choice, patch))[:2] for keys in KEYS]
            line = [f"{100 * share:g} %", choice, *(cell for pair in cells for cell in pair)]
            print(f"| {' | '.join(line)} |", flush=True)
    print("\n| | cost | PSNR |\n|---|---|---|")
    for budget in (36, 28, 24, 20, 16):
        _, values, cost = measured(Auto(budget=budget))
        print(f"| auto, budget {budget} | {cost:.1f} | {values} |", flush=True)
    for inner in (None, Auto(budget=36), Auto(budget=24), Auto(budget=20)):
        for share in (0.25, 0.5, 0.75):
            _, values, cost = measured(Alternating(inner, share, "cached", "change", patch))
            print(f"| {inner}, {100 * share:g} % pruned at every second | {cost:.1f} | {values} |", flush=True)


@dataclass(frozen=True)
class Subject:
    name: str
    build: Callable[[], torch.nn.Module]
    shape: tuple[int, int, int]
    conditioning: dict[str, tuple[int, ...]]
    depths: tuple[int, ...] = (0,)
    patch: int = 1


def unet(width: int) -> Callable[[], torch.nn.Module]:
    channels = [320 // width, 640 // width, 1280 // width, 1280 // width]
    return lambda: UNet(UNetConfig.from_dict({**UNET, "block_out_channels": channels}))


def flux(width: int) -> Callable[[], torch.nn.Module]:
    """One double block to two single ones, as 19 to 38."""
    config = FluxConfig(num_layers=1, num_single_layers=2, num_attention_heads=24 // width)
    return lambda: FluxTransformer(config)


def subjects(width: int) -> list[Subject]:
    scale = "" if width == 1 else f", 1/{width} of the width"
    text, joint = {"context": (77, 1024)}, {"context": (512, 4096), "pooled": (768,)}
    return [
        Subject(f"SD 2.1{scale}, 512x512", unet(width), (4, 64, 64), text, (0, 1, 2)),
        Subject(f"SD 2.1{scale}, 768x768", unet(width), (4, 96, 96), text),
        Subject(f"Flux.1{scale}, 512x512", flux(width), (16, 64, 64), joint, patch=2),
        Subject(f"Flux.1{scale}, 1024x1024", flux(width), (16, 128, 128), joint, patch=2),
    ]


def seconds(subject: Subject, device: torch.device, dtype: torch.dtype, repeats: int) -> None:
    torch.manual_seed(0)
    with device:
        network = subject.build().eval().to(dtype)
        x = torch.randn(1, *subject.shape, dtype=dtype)
        inputs = {name: torch.randn(1, *shape, dtype=dtype) for name, shape in subject.conditioning.items()}
        scores = F.avg_pool2d(torch.rand(1, *subject.shape[1:]), subject.patch)

    def timed(seam: Callable[[], Seam]) -> float:
        clock = time.process_time if device.type == "cpu" else time.perf_counter
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = clock()
        network(x, 500.0, seam=seam(), **inputs)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return clock() - began

    for keys, depth in [(keys, depth) for depth in subject.depths for keys in KEYS if not depth or keys == "cached"]:
        cache = TokenCache(1, depth, keys=keys)
        seams: dict[str, Callable[[], Seam]] = {"plain": lambda: call_through}
        seams["filling"] = lambda cache=cache: cache.filling([0])
        for share in [0.0, *SHARES]:
            seams[f"{share:g}"] = lambda cache=cache, share=share: Pruned(cache, [0], scores, share)
        taken: dict[str, list[float]] = {name: [] for name in seams}
        for _ in range(repeats + 1):
            for name, seam in seams.items():
                taken[name].append(timed(seam))
        plain = taken["plain"][1:]
        cells = [statistics.median(a / b for a, b in zip(taken[name][1:], plain, strict=True)) for name in seams]
        row = [f"{statistics.median(plain):.2f} s", *(f"{cell:.3f}" for cell in cells[1:])]
        row += [f"{cache.nbytes / 2**20:.0f} MiB"]
        print(f"| {subject.name} | {keys} | {depth} | " + " | ".join(row) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["fidelity", "seconds"])
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--width", default=2, type=int, help="how many times narrower networks are than published")
    parser.add_argument("--repeats", default=3, type=int)
    parser.add_argument("--only", default="", help="of those whose name contains it")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    if options.what == "fidelity":
        for model in ("tiny-sd", "tiny-flux"):
            if options.only in model:
                fidelity(model)
        return
    shares = [f"{100 * share:g} %" for share in [0, *SHARES]]
    columns = ["network", "keys", "depth", "plain", "filling", *shares, "held"]
    print(f"| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|")
    for subject in subjects(options.width):
        if options.only in subject.name:
            seconds(subject, options.device, getattr(torch, options.dtype), options.repeats)


if __name__ == "__main__":
    main()
