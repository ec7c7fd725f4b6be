"""A share of the attacks that `make attack` runs for longer, and all that ever found something."""

import json
import time
from pathlib import Path

import pytest

from attacks.outcome import Outcome, judged, run
from attacks.run import ATTACKS, corpus


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_withstood(name: str, tmp_path: Path) -> None:
    attack = ATTACKS[name]
    seeds = [*corpus().get(name, []), *range(attack.quick)]
    found = dict(run(attack, dict.fromkeys(seeds), tmp_path / "attack", time.monotonic() + 300))
    shortfalls = {seed: outcome for seed, outcome in found.items() if outcome.kind != "withstood"}
    assert not shortfalls and len(found) == len(set(seeds))


def test_the_harness_notices_shortfalls(tmp_path: Path) -> None:
    """An attack that raises, crashes, writes or hides the file counts as what it is."""

    def refuse(error: BaseException) -> None:
        raise error

    def kind(outcome: Outcome | None) -> str:
        return "" if outcome is None else outcome.kind

    assert judged(lambda: None) is None
    assert kind(judged(lambda: refuse(KeyError("x")))) == "traceback"
    assert kind(judged(lambda: refuse(RecursionError()))) == "traceback"
    assert kind(judged(lambda: refuse(ValueError("")))) == "no usable message"
    assert kind(judged(lambda: refuse(ValueError("bad")), "file.json")) == "file not named"
    assert kind(judged(lambda: refuse(ValueError("file.json is bad")), "file.json")) == "withstood"


def test_the_corpus_names_attacks() -> None:
    assert corpus().keys() <= ATTACKS.keys() and json.dumps(corpus())
