"""The README's tables: SADA, auto and the plain rivals on the embedded checkpoints, over the 20 prompts of their cards.

    python docs/measure_embedded.py tiny-sd --solver euler
    python docs/measure_embedded.py tiny-flux --solver euler
    python docs/measure_embedded.py tiny-sd --solver dpmpp2m --controlnet tiny-controlnet

Every row is sampled side by side in one process, prompt by prompt; a median of several such rounds is printed. The edge
maps for a ControlNet are those of the checkpoint's own pictures of the prompts at seed 1.
"""

import argparse
import statistics
from collections.abc import Sequence

import torch
from tqdm import tqdm

from sadaflow import Pipeline
from sadaflow.compare import Comparison, Row, Settings, compare
from sadaflow.training.captions import CARD_PROMPTS
from sadaflow.training.edges import edge_maps


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def joined(comparisons: Sequence[Comparison], index: int) -> Row:
    """Row `index` of comparisons that have a prompt each."""
    rows = [one.rows[index] for one in comparisons]
    fields = ("nfe", "seconds", "controller_seconds", "psnr", "ssim")
    values = {field: tuple(value for row in rows for value in getattr(row, field)) for field in fields}
    name = rows[0].name if len({row.name for row in rows}) == 1 else "fewer steps" + rows[0].name.partition(" steps")[2]
    modes = tuple(each for row in rows for each in row.modes)
    return Row(name, torch.cat([row.images for row in rows]), modes=modes, **values)


def line(rounds: Sequence[tuple[Row, Row]]) -> str:
    """A line of the table from (plain row, this row) of every round, which differ in their seconds only."""
    row = rounds[0][1]
    seconds = statistics.median(mean(this.seconds) for _, this in rounds)
    faster = statistics.median(mean(plain.seconds) / mean(this.seconds) for plain, this in rounds)
    same = row is rounds[0][0]
    fidelity = "- | -" if same else f"{mean(row.psnr):.2f} / {min(row.psnr):.2f} | {mean(row.ssim):.4f}"
    return f"| {row.name} | {mean(row.nfe):.1f} | {seconds:.3f} | {faster:.2f}x | {fidelity} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--solver", default="euler")
    parser.add_argument("--controlnet")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--accelerators", nargs="+", default=["sada", "auto"])
    options = parser.parse_args()
    plain = Pipeline.from_pretrained(options.model)
    pipe, controls = plain, [None] * len(CARD_PROMPTS)
    if options.controlnet is not None:
        pictures = plain(list(CARD_PROMPTS), steps=25, seed=1, output="tensor", progress=False).images
        controls = list(edge_maps(pictures))
        pipe = Pipeline.from_pretrained(options.model, controlnet=options.controlnet)
    rounds: list[dict[str, list[Comparison]]] = []
    with tqdm(total=options.rounds * len(options.accelerators) * len(CARD_PROMPTS), leave=False) as bar:
        for _ in range(options.rounds):
            rounds.append({name: [] for name in options.accelerators})
            for prompt, control in zip(CARD_PROMPTS, controls, strict=True):
                arguments = {} if control is None else {"control": control}
                settings = Settings(steps=options.steps, solver=options.solver, arguments=arguments)
                for name in options.accelerators:
                    rounds[-1][name].append(compare(pipe, [prompt], settings, name))
                    bar.update()
    beside = "" if options.controlnet is None else f" with {options.controlnet}"
    threads = torch.get_num_threads()
    print(f"{options.model}{beside}, {options.solver}, {options.steps} steps, {threads} threads:\n")
    print("| | NFE | seconds a picture | speed-up | PSNR mean / worst | SSIM |\n|---|---|---|---|---|---|")
    shares = {}
    for name in options.accelerators:
        rows = [[joined(one[name], index) for index in range(len(one[name][0].rows))] for one in rounds]
        shares[name] = statistics.median(sum(one[-1].controller_seconds) / sum(one[0].seconds) for one in rows)
        first = name == options.accelerators[0]
        for index in range(len(rows[0])) if first else [-1]:
            print(line([(one[0], one[index]) for one in rows]))
    print("\nThe controller's own time in parts of the plain run: ", end="")
    print(", ".join(f"{name} {100 * share:.2f}%" for name, share in shares.items()))


if __name__ == "__main__":
    main()
