"""Attacks the project for some minutes, or replays what was ever found: `make attack MINUTES=30`.

    python -m attacks.run --minutes 30 --seed 1 --out outputs/attacks.json     # in tests/, or with it on PYTHONPATH

It prints a table of the classes of attacks, with attempts and shortfalls, and every shortfall with its seed; seeds that
found something belong into corpus.json.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import checkpoints, folders, hub, inputs
from .outcome import KINDS, Attack, run

ATTACKS: Mapping[str, Attack] = {
    attack.name: attack for room in (checkpoints, inputs, hub, folders) for attack in room.ATTACKS
}
CORPUS = Path(__file__).with_name("corpus.json")


def corpus() -> dict[str, list[int]]:
    """Seeds that ever found something, by the name of the attack."""
    found: dict[str, list[int]] = json.loads(CORPUS.read_text("utf-8"))
    return found


def table(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Attempts and shortfalls of every class, in Markdown."""
    lines = ["| attack | attempts | " + " | ".join(KINDS[1:]) + " |", "|---" * (len(KINDS) + 1) + "|"]
    for name, found in counts.items():
        shown = [str(found.get(kind, 0)) for kind in KINDS[1:]]
        lines.append(f"| {name}: {ATTACKS[name].what} | {sum(found.values())} | {' | '.join(shown)} |")
    sums = [str(sum(found.get(kind, 0) for found in counts.values())) for kind in KINDS[1:]]
    lines.append(f"| all | {sum(sum(found.values()) for found in counts.values())} | {' | '.join(sums)} |")
    return "\n".join(lines)


def main(names: Sequence[str], minutes: float, times: int, seed: int, out: Path | None) -> int:
    """Run the attacks in turn; returns the number of shortfalls.

    Args:
        names: Names of the attacks.
        minutes: Time for all of them, each of which gets the same share.
        times: Attempts of each, in multiples of those in the test suite.
        seed: Seed of the first attempt.
        out: File for the results; None for none.
    """
    counts: dict[str, Counter[str]] = {}
    shortfalls: list[tuple[str, int, str, str]] = []
    for name in names:
        counts[name] = Counter()
        until = time.monotonic() + 60 * minutes / len(names)
        seeds = range(seed, seed + times * ATTACKS[name].quick)
        with tempfile.TemporaryDirectory() as place:
            for number, outcome in run(ATTACKS[name], seeds, Path(place) / "attack", until):
                counts[name][outcome.kind] += 1
                if outcome.kind != KINDS[0]:
                    shortfalls.append((name, number, outcome.kind, outcome.note))
                    print(f"{name}, seed {number}: {outcome.kind}: {outcome.note[-700:]}", flush=True)
        print(f"{name}: {dict(counts[name])}", flush=True)
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps({"counts": counts, "shortfalls": shortfalls, "seed": seed}, indent=1))
    print(table(counts))
    return len(shortfalls)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--times", type=int, default=10**6, help="attempts, in multiples of those in the test suite")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--only", nargs="*", default=list(ATTACKS), choices=list(ATTACKS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    raise SystemExit(min(1, main(given.only, given.minutes, given.times, given.seed, given.out)))
