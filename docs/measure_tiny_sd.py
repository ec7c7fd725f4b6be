"""The README's tables: SADA and the plain rivals on tiny-sd, over the 20 prompts of its model card.

    python docs/measure_tiny_sd.py > measured.md

Every row is sampled side by side in one process, prompt by prompt; a median of several such rounds is printed.
"""

import argparse
import statistics

import torch
from tqdm import tqdm

from sadaflow import Pipeline
from sadaflow.compare import Comparison, Settings, compare
from sadaflow.training.captions import CARD_PROMPTS


def mean(values: list[float] | tuple[float, ...]) -> float:
    return sum(values) / len(values)


def markdown(rounds: list[Comparison]) -> str:
    """A table of the rounds' comparisons, which differ in their seconds only; seconds are medians over the rounds."""
    lines = ["| | NFE | seconds a picture | speed-up | PSNR mean / worst | SSIM |", "|---|---|---|---|---|---|"]
    for index, row in enumerate(rounds[0].rows):
        seconds = statistics.median(mean(one.rows[index].seconds) for one in rounds)
        faster = statistics.median(mean(one.plain.seconds) / mean(one.rows[index].seconds) for one in rounds)
        fidelity = f"{mean(row.psnr):.2f} / {min(row.psnr):.2f} | {mean(row.ssim):.4f}" if index else "- | -"
        lines.append(f"| {row.name} | {mean(row.nfe):.1f} | {seconds:.3f} | {faster:.2f}x | {fidelity} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--accelerator", default="sada")
    options = parser.parse_args()
    pipe = Pipeline.from_pretrained()
    for solver in ("euler", "dpmpp2m"):
        settings = Settings(steps=options.steps, solver=solver, guidance=options.guidance)
        rounds = []
        for _ in range(options.rounds):
            with tqdm(total=5 * len(CARD_PROMPTS), leave=False) as bar:
                rounds.append(compare(pipe, CARD_PROMPTS, settings, options.accelerator, lambda what: bar.update()))  # noqa: B023
        share = statistics.median(sum(one.accelerated.controller_seconds) / sum(one.plain.seconds) for one in rounds)
        print(f"{solver}, {options.steps} steps, guidance {options.guidance:g}, {torch.get_num_threads()} threads:\n")
        print(markdown(rounds))
        print(f"\nThe controller's own time: {100 * share:.2f}% of the plain run.\n")


if __name__ == "__main__":
    main()
