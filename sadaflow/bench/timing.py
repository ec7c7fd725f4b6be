"""Seconds as ratios: settings side by side, interleaved over several rounds, a round of warm-up left out."""

from .folder import Folder, Record
from .subjects import Subjects
from .suite import PLAIN, Case, Setting, Suite
from .sweep import Advance, run


def timed(suite: Suite, case: Case) -> tuple[Setting, ...]:
    """What is timed on a case, the plain run first; nothing where the suite times none of its settings."""
    if suite.timing is None or case.steps not in suite.timing.steps:
        return ()
    chosen = [setting for setting in suite.settings(case) if setting.label in suite.timing.settings]
    return (PLAIN, *(setting for setting in chosen if setting is not PLAIN)) if chosen else ()


def rounds(suite: Suite) -> int:
    """Measured rounds of the whole suite."""
    if suite.timing is None:
        return 0
    batches = -(-min(suite.timing.samples, len(suite.samples)) // suite.timing.batch)
    return sum(bool(timed(suite, case)) for case in suite.cases) * batches * suite.timing.rounds


def measure(suite: Suite, folder: Folder, subjects: Subjects, advance: Advance = lambda rounds: None) -> None:
    """Time what the folder does not hold yet; ValueError for a suite without [timing].

    A round samples one batch once in every setting, each round beginning with another one, so that a machine that
    slows down or speeds up touches all alike. One line is written a round.
    """
    timing = suite.timing
    if timing is None:
        raise ValueError(f"suite {suite.name} has no [timing] table that names the settings to time")
    done = {(case_of(line), line["first"], line["round"]) for line in folder.timing.read()}
    for case in suite.cases:
        settings = timed(suite, case)
        if not settings:
            continue
        for first in range(0, min(timing.samples, len(suite.samples)), timing.batch):
            missing = [index for index in range(timing.rounds) if (case, first, index) not in done]
            advance(timing.rounds - len(missing))
            for index in [-1, *missing] if missing else []:
                line = _round(suite, case, settings, first, index, subjects)
                if index >= 0:
                    folder.timing.append([line])
                    advance(1)


def case_of(line: Record) -> Case:
    """The case that a line of measurements belongs to."""
    return Case(line["model"], line["solver"], line["steps"], line["guidance"])


def _round(
    suite: Suite, case: Case, settings: tuple[Setting, ...], first: int, index: int, subjects: Subjects
) -> Record:
    assert suite.timing is not None
    samples = suite.samples[first : min(first + suite.timing.batch, suite.timing.samples)]
    turn = index % len(settings)
    runs = {}
    for setting in (*settings[turn:], *settings[:turn]):
        stats = run(setting, case, samples, subjects(case.model)).stats
        nfe = sum(stats.nfe) / len(samples)
        runs[setting.label] = {"nfe": nfe, "seconds": stats.seconds, "controller": stats.controller_seconds}
    named = {"model": case.model, "solver": case.solver, "steps": case.steps, "guidance": case.guidance}
    return {**named, "first": first, "samples": len(samples), "round": index, "runs": runs}
