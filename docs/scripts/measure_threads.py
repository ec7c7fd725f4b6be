"""Calls one pipeline from several threads and compares every result with that of the same call made alone.

    python docs/scripts/measure_threads.py [CALLS] [THREADS]

Half of the calls go to tiny-sd, half to tiny-flux: 2 to 6 steps, 64 pixels, prompts, seeds and accelerators drawn at
random, results compared to the bit. It prints how many differ or fail, and exits with 1 if any does.
"""

import random
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from sadaflow import Pipeline

PROMPTS = ("red apple", "a fox in the snow, seen from afar, on a clear winter morning", "house", "", "blue heart")
CASES = 60


@dataclass(frozen=True)
class Call:
    """One call, and what it gave alone."""

    pipe: Pipeline
    arguments: dict[str, Any]
    expected: torch.Tensor | None = None

    def make(self) -> torch.Tensor:
        return self.pipe(**self.arguments, height=64, width=64, progress=False, output="tensor").images

    def outcome(self) -> str:
        try:
            made = self.make()
        except Exception as error:
            return f"{type(error).__name__}: {str(error)[:100]}"
        assert self.expected is not None
        return "equal" if torch.equal(made, self.expected) else "different"


def draw(pipes: list[Pipeline], rng: random.Random) -> Call:
    """A call at random; accelerators that need more steps get them."""
    pipe = rng.choice(pipes)
    accelerator = rng.choice((None, None, None, "first-block" if pipe.name == "tiny-flux" else "deepcache", "uniform"))
    prompts = rng.choices(PROMPTS, k=rng.choice((1, 1, 2)))
    arguments: dict[str, Any] = {"prompt": prompts, "seed": [rng.randrange(2**40) for _ in prompts]}
    arguments |= {"steps": 2 if accelerator is None else 6, "accelerator": accelerator}
    return Call(pipe, arguments)


def main(calls: int, threads: int) -> int:
    torch.set_num_threads(1)
    rng = random.Random(0)
    pipes = [Pipeline.from_pretrained(name) for name in ("tiny-sd", "tiny-flux")]
    drawn = [draw(pipes, rng) for _ in range(min(CASES, calls))]
    cases = [Call(call.pipe, call.arguments, call.make()) for call in drawn]
    order = [rng.choice(cases) for _ in range(calls)]
    with ThreadPoolExecutor(threads) as pool:
        outcomes = Counter(pool.map(Call.outcome, order))
    print(f"{calls} calls in {threads} threads, {len(cases)} different ones:")
    for outcome, count in outcomes.most_common():
        print(f"  {count:6d} {outcome}")
    return int(outcomes["equal"] != calls)


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    sys.exit(main(*(given + [2000, 8][len(given) :])))
