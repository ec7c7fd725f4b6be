"""The table of docs/guidance.md: guidance rules on tiny-sd, without acceleration and with it.

    python docs/scripts/measure_guidance.py [--pictures 20] [--steps 20] [--rules 10]

PSNR is against the run of the same rule without acceleration. "fewer steps" takes as many as `auto` evaluates, rounded
up.
"""

import argparse
import time
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from sadaflow import Pipeline

PROMPTS: Final = [
    "red apple", "green apple", "hot dog", "fire", "tree", "blue heart", "grinning face", "cat face", "dog face", "sun",
    "moon", "rose", "tulip", "lemon", "pizza", "strawberry", "house", "car", "balloon", "crown",
]  # fmt: skip
RULES: Final = (
    "cfg scale=5", "cfg scale=5 + interval low=0.3 high=5", "apg scale=5", "cfg-pp scale=0.6", "linear first=7 last=1",
    "cfg scale=5 + rescale phi=0.7", "zero-star scale=5 zero_steps=0",
    "cfg scale=5 + compose weights=0.5 prompts=green", "cfg scale=5 + threshold limit=2", "cosine first=7 last=1",
)  # fmt: skip
WAYS: Final = ("uniform", "sada", "auto")


@dataclass(frozen=True)
class Made:
    """Pictures (B, 3, H, W) in [0, 1], and the mean of their network evaluations."""

    images: Tensor
    nfe: float


def sampled(pipe: Pipeline, rule: str, pictures: int, steps: int, accelerator: str | None) -> Made:
    """The pictures of the first prompts with seeds 0, 1, ..."""
    seeds = list(range(pictures))
    out = pipe(
        PROMPTS[:pictures], guidance=rule, steps=steps, solver="dpmpp2m", seed=seeds, accelerator=accelerator,
        output="tensor", progress=False,
    )  # fmt: skip
    return Made(out.images, sum(out.stats.nfe) / pictures)


def cell(made: Made, plain: Made) -> str:
    """Evaluations, and the mean and worst PSNR."""
    psnr = -10 * (made.images - plain.images).square().mean((1, 2, 3)).log10()
    return f"{made.nfe:.1f}: {psnr.mean():.1f} / {psnr.min():.1f}"


def row(pipe: Pipeline, rule: str, pictures: int, steps: int) -> str:
    """The row of a rule."""
    plain = sampled(pipe, rule, pictures, steps, None)
    ways = {name: sampled(pipe, rule, pictures, steps, name) for name in WAYS}
    share = ways["auto"].nfe / plain.nfe
    fewer = sampled(pipe, rule, pictures, -(-round(1000 * share * steps) // 1000), None)
    return f"| `{rule}` | {plain.nfe:.1f} | " + " | ".join(cell(made, plain) for made in (fewer, *ways.values())) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=len(PROMPTS))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rules", type=int, default=len(RULES))
    args = parser.parse_args()
    pipe, began = Pipeline.from_pretrained(), time.perf_counter()
    print("| rule | plain | fewer steps | uniform | sada | auto |")
    print("|---|---|---|---|---|---|")
    for rule in RULES[: args.rules]:
        print(row(pipe, rule, args.pictures, args.steps), flush=True)
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
