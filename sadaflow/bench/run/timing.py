"""Seconds as ratios: settings side by side, interleaved over several rounds, a round of warm-up left out.

Evaluations are counted and peak memory is measured in that round, where watching costs no seconds that count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ..suite.model import PLAIN, Case, Sample, Setting, Suite
from ..suite.subjects import Subject, Subjects
from .folder import Folder, Record
from .memory import peak_memory
from .sweep import Advance, case_of, run


def timed(suite: Suite, case: Case) -> tuple[Setting, ...]:
    """What is timed on a case, the plain run first; nothing where the suite times none of its settings."""
    if suite.timing is None or case.steps not in suite.timing.steps:
        return ()
    wanted = suite.timing.settings
    chosen = [setting for setting in suite.settings(case) if not wanted or setting.label in wanted]
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
            if not missing:
                continue
            samples = suite.samples[first : min(first + timing.batch, timing.samples)]
            subject = subjects(case.model)
            run(PLAIN, case, samples, subject)
            watched = {
                setting.label: _watched(setting, case, samples, subject, subjects.device) for setting in settings
            }
            for index in missing:
                runs = _round(case, settings, samples, index, subject, watched)
                named = {"model": case.model, "solver": case.solver, "steps": case.steps, "guidance": case.guidance}
                line = {**named, "first": first, "samples": len(samples), "round": index, "runs": runs}
                folder.timing.append([line])
                advance(1)


@dataclass(frozen=True)
class Watched:
    """Evaluations a sample, and bytes beyond those before the run, of the round that is not timed."""

    nfe: float
    memory: int


def _watched(
    setting: Setting, case: Case, samples: Sequence[Sample], subject: Subject, device: torch.device
) -> Watched:
    nfe: list[float] = []
    memory = peak_memory(lambda: nfe.extend(run(setting, case, samples, subject).stats.nfe), device)
    return Watched(sum(nfe) / len(samples), memory)


def _round(
    case: Case,
    settings: Sequence[Setting],
    samples: Sequence[Sample],
    index: int,
    subject: Subject,
    watched: Mapping[str, Watched],
) -> Record:
    """What one batch cost in every setting."""
    turn = index % len(settings)
    runs = {}
    for setting in (*settings[turn:], *settings[:turn]):
        stats = run(setting, case, samples, subject, counted=False).stats
        runs[setting.label] = {
            "nfe": watched[setting.label].nfe,
            "seconds": stats.seconds,
            "network": stats.network_seconds,
            "controller": stats.controller_seconds,
            "memory": watched[setting.label].memory,
        }
    return runs
