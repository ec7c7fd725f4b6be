"""The table of docs/pictures.md: calls with a picture, without acceleration and with it, on tiny-sd.

    python docs/scripts/measure_pictures.py [--pictures 20] [--steps 50]

The pictures to start from are samples of tiny-sd of the prompts below; each is changed by the next prompt. PSNR and
SSIM are against the run without acceleration; of repainted pictures PSNR counts the pixels under the mask alone.
"""

import argparse
from collections.abc import Iterator

import torch
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.compare.comparison import Comparison, Row, compare
from sadaflow.families import Request

PROMPTS = [
    "red apple", "green apple", "hot dog", "fire", "tree", "blue heart", "grinning face", "cat face", "dog face", "sun",
    "moon", "rose", "tulip", "lemon", "pizza", "strawberry", "house", "car", "balloon", "crown",
]  # fmt: skip
SIZE = 64
TASKS = ("picture, strength 0.6", "picture, strength 0.3", "mask, strength 1", "mask, strength 0.6")


def call(task: str, image: Tensor) -> dict[str, object]:
    """The arguments of a task for a picture (3, H, W)."""
    kind, _, strength = task.partition(", strength ")
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, SIZE // 4 : SIZE * 3 // 4, SIZE // 4 : SIZE * 3 // 4] = 1
    return {"image": image, "strength": float(strength), **({"mask": mask} if kind == "mask" else {})}


def fidelity(row: Row, plain: Row, masked: bool) -> float:
    """PSNR in dB against the run without acceleration, under the mask if there is one."""
    inner = slice(SIZE // 4, SIZE * 3 // 4) if masked else slice(None)
    error = (row.images - plain.images)[..., inner, inner].square().mean()
    return float(-10 * error.log10())


def measured(pipe: Pipeline, task: str, inputs: Tensor, steps: int) -> list[Comparison]:
    """The comparison of every picture."""
    found = []
    for index, image in enumerate(inputs):
        prompt = PROMPTS[(index + 1) % len(PROMPTS)]
        request = Request(prompt, steps=steps, seed=index, solver="dpmpp2m", **call(task, image))
        found.append(compare(pipe, [prompt], request, "auto", beside=["sada"]))
    return found


def table(task: str, runs: list[Comparison]) -> Iterator[str]:
    """Lines of the table: the mean cost and fidelity of each way."""
    labels = ["no accelerator", "fewer steps", "uniform", "sada", "auto"]
    for label, pick in zip(labels, (0, 1, 3, 4, 5), strict=True):
        rows, plain = [run.rows[pick] for run in runs], [run.rows[0] for run in runs]
        nfe = sum(row.nfe[0] for row in rows) / len(rows)
        if pick == 0:
            yield f"| {task} | {label} | {nfe:.1f} | | |"
            continue
        psnr = sum(fidelity(row, base, task.startswith("mask")) for row, base in zip(rows, plain, strict=True))
        ssim = sum(row.ssim[0] for row in rows)
        yield f"| | {label} | {nfe:.1f} | {psnr / len(rows):.1f} | {ssim / len(rows):.4f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=len(PROMPTS))
    parser.add_argument("--steps", type=int, default=50)
    args = parser.parse_args()
    torch.set_num_threads(1)
    pipe = Pipeline.from_pretrained()
    inputs = torch.cat([
        pipe(prompt, steps=20, solver="dpmpp2m", seed=1000 + index, output="tensor", accelerator="auto").images
        for index, prompt in enumerate(PROMPTS[: args.pictures])
    ])  # fmt: skip
    print("| task | accelerator | NFE | PSNR, dB | SSIM |\n|---|---|---|---|---|")
    for task in TASKS:
        print("\n".join(table(task, measured(pipe, task, inputs, args.steps))), flush=True)


if __name__ == "__main__":
    main()
