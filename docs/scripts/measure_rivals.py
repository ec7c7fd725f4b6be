"""Evaluations and fidelity of accelerators, on the prompts that settings are tuned with, which no other table reports.

    python docs/scripts/measure_rivals.py tiny-sd --solver dpmpp2m "Auto(budget=21.5)" "Combined(Auto(), Guidance())"

Every argument is an accelerator as Python writes it; all are sampled in one process, at seeds 100 and 101.
"""

import argparse

import sadaflow.accelerators
from sadaflow import Pipeline
from sadaflow.metrics import psnr

PROMPTS = ("hot dog", "fire", "tree", "blue heart")
SEEDS = (100, 101)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("accelerators", nargs="+")
    parser.add_argument("--solver", default="dpmpp2m")
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    pipe = Pipeline.from_pretrained(options.model)
    prompts = list(PROMPTS) * len(SEEDS)
    call = {
        "steps": options.steps, "solver": options.solver, "output": "tensor", "progress": False,
        "seed": [seed for seed in SEEDS for _ in PROMPTS],
    }  # fmt: skip
    reference = pipe(prompts, **call).images
    print(f"{options.model}, {options.solver}, {options.steps} steps: NFE, PSNR in dB mean / worst")
    for text in options.accelerators:
        out = pipe(prompts, **call, accelerator=eval(text, vars(sadaflow.accelerators)))
        decibels = psnr(out.images, reference)
        nfe = sum(out.stats.nfe) / len(prompts)
        print(f"| {text} | {nfe:.1f} | {float(decibels.mean()):.1f} / {float(decibels.min()):.1f} |", flush=True)


if __name__ == "__main__":
    main()
