"""The tables of docs/pictures.md and docs/inversion.md: calls with a picture, plain and accelerated, on tiny-sd.

    python docs/scripts/measure_pictures.py [--pictures 20] [--steps 50] [--tasks picture mask edit control]

The pictures to start from are samples of tiny-sd of the prompts below; each is changed by the next prompt, or, with
tiny-controlnet, drawn anew along the edges of its own. PSNR and SSIM are against the run without acceleration; of
repainted pictures PSNR counts the pixels under the mask alone.
"""

import argparse
from dataclasses import dataclass

import torch
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.files.images import edge_maps
from sadaflow.metrics import ssim
from sadaflow.solvers.registry import draws_noise

PROMPTS = [
    "red apple", "green apple", "hot dog", "fire", "tree", "blue heart", "grinning face", "cat face", "dog face", "sun",
    "moon", "rose", "tulip", "lemon", "pizza", "strawberry", "house", "car", "balloon", "crown",
]  # fmt: skip
SIZE = 64
TASKS = (
    *("picture, strength 0.6", "picture, strength 0.3", "mask, strength 1", "mask, strength 0.6"),
    *("edit, strength 0.7", "control", "control and picture, strength 0.6"),
)
KINDS = ("picture", "mask", "edit", "control")
SOLVERS = {"edit": "euler-ancestral"}
"""Solvers of tasks, where it is not DPM-Solver++ 2M. An edit is edit-friendly with one that draws noise."""
WAYS = ("uniform", "sada", "auto")


@dataclass(frozen=True)
class Made:
    """Pictures (B, 3, H, W) in [0, 1], and the network evaluations of each."""

    images: Tensor
    nfe: list[float]

    @property
    def mean_nfe(self) -> float:
        return sum(self.nfe) / len(self.nfe)


def call(task: str, images: Tensor) -> dict[str, object]:
    """The arguments of a task for pictures (B, 3, H, W)."""
    kind, _, strength = task.partition(", strength ")
    if kind.startswith("control"):
        start = {"image": images, "strength": float(strength)} if strength else {}
        return {"control": edge_maps(images), **start}
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, SIZE // 4 : SIZE * 3 // 4, SIZE // 4 : SIZE * 3 // 4] = 1
    own: dict[str, dict[str, object]] = {"mask": {"mask": mask}, "edit": {"source_prompt": PROMPTS[: len(images)]}}
    return {"image": images, "strength": float(strength), **own.get(kind, {})}


def solver_of(task: str) -> str:
    """The solver of a task."""
    return SOLVERS.get(task.partition(",")[0], "dpmpp2m")


def sampled(pipe: Pipeline, task: str, inputs: Tensor, steps: int, accelerator: str | None) -> Made:
    """Every picture changed by the next prompt."""
    shift = 0 if task.startswith("control") else 1
    prompts = [PROMPTS[(index + shift) % len(PROMPTS)] for index in range(len(inputs))]
    how = {"steps": steps, "solver": solver_of(task), "seed": list(range(len(inputs))), "accelerator": accelerator}
    out = pipe(prompts, **how, **call(task, inputs), output="tensor", progress=False)  # type: ignore[arg-type]
    return Made(out.images, out.stats.nfe)


def cells(label: str, made: Made, plain: Made, masked: bool) -> str:
    """A row's cost and fidelity: the mean and the worst PSNR, and the mean SSIM."""
    inner = slice(SIZE // 4, SIZE * 3 // 4) if masked else slice(None)
    error = (made.images - plain.images)[..., inner, inner].square().mean((1, 2, 3))
    psnr = -10 * error.log10()
    alike = float(ssim(made.images, plain.images).mean())
    return f"| | {label} | {made.mean_nfe:.1f} | {psnr.mean():.1f} / {psnr.min():.1f} | {alike:.4f} |"


def rows(pipe: Pipeline, task: str, inputs: Tensor, steps: int) -> list[str]:
    """The rows of a task; "fewer steps" takes as many as the last way evaluates, rounded up."""
    plain = sampled(pipe, task, inputs, steps, None)
    ways = [name for name in WAYS if name != "auto" or not draws_noise(solver_of(task))]  # `auto` takes steps again
    found = {name: sampled(pipe, task, inputs, steps, name) for name in ways}
    share = found[ways[-1]].mean_nfe / plain.mean_nfe
    fewer = sampled(pipe, task, inputs, -(-round(1000 * share * steps) // 1000), None)
    masked = task.startswith("mask")
    lines = [cells(label, made, plain, masked) for label, made in {"fewer steps": fewer, **found}.items()]
    return [f"| {task} | none | {plain.mean_nfe:.1f} | | |", *lines]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=len(PROMPTS))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--tasks", nargs="+", default=["picture", "mask"], choices=KINDS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    pipe = Pipeline.from_pretrained()
    prompts = PROMPTS[: args.pictures]
    seeds = [1000 + index for index in range(len(prompts))]
    inputs = pipe(prompts, steps=20, solver="dpmpp2m", seed=seeds, output="tensor").images
    controlled = Pipeline.from_pretrained(controlnet="tiny-controlnet") if "control" in args.tasks else None
    print("| task | accelerator | NFE | PSNR mean / worst, dB | SSIM |\n|---|---|---|---|---|")
    for task in (task for task in TASKS if task.startswith(tuple(args.tasks))):
        drawing = controlled if controlled is not None and task.startswith("control") else pipe
        print("\n".join(rows(drawing, task, inputs, args.steps)), flush=True)


if __name__ == "__main__":
    main()
