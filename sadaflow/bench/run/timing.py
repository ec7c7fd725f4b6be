"""Measures seconds: settings are sampled in turn over several rounds, after a warm-up round that is not counted.

Network evaluations and peak memory are measured in the warm-up round, because measuring them takes time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ..suite.model import PLAIN, Case, Sample, Setting, Suite, Timing
from ..suite.subject import Subject
from ..suite.subjects import Subjects
from .folder import Folder
from .lines import Record
from .memory import peak_memory
from .sweep import Advance, case_of, run


def timed(suite: Suite, case: Case) -> tuple[Setting, ...]:
    """Returns the settings that are timed on a case, the plain run first; nothing if none is."""
    if suite.timing is None or case.steps not in suite.timing.steps:
        return ()
    labels = suite.timing.settings
    chosen = [setting for setting in suite.settings(case) if not labels or setting.label in labels]
    return (PLAIN, *(setting for setting in chosen if setting is not PLAIN)) if chosen else ()


def rounds(suite: Suite) -> int:
    """Returns the number of measured rounds of the whole suite."""
    if suite.timing is None:
        return 0
    batches = sum(len(firsts(suite, suite.timing, case)) for case in suite.cases if timed(suite, case))
    return batches * suite.timing.rounds


def firsts(suite: Suite, timing: Timing, case: Case) -> range:
    """Returns the index of the first sample of every batch of a case that is timed."""
    return range(0, min(timing.samples, len(suite.samples_of(case))), timing.batch)


def measure(suite: Suite, folder: Folder, subjects: Subjects, advance: Advance = lambda rounds: None) -> None:
    """Times what the folder does not hold yet, and appends a line per round.

    A round samples one batch once in every setting. Each round begins with another setting, so that a machine that
    slows down or speeds up affects all alike.

    Args:
        suite: What to time.
        folder: Where measurements are read and appended.
        subjects: Loads the models.
        advance: Called with the number of rounds that are done, those found in the folder included.

    Raises:
        ValueError: If the suite has no [timing] table.
    """
    timing = suite.timing
    if timing is None:
        raise ValueError(f"suite {suite.name} has no [timing] table that names the settings to time")
    done = {(case_of(line), line["first"], line["round"]) for line in folder.timing.read()}
    for case in suite.cases:
        settings = timed(suite, case)
        if not settings:
            continue
        for first in firsts(suite, timing, case):
            missing = [index for index in range(timing.rounds) if (case, first, index) not in done]
            advance(timing.rounds - len(missing))
            if not missing:
                continue
            samples = suite.samples_of(case)[first : min(first + timing.batch, timing.samples)]
            subject = subjects(case.model)
            run(PLAIN, case, samples, subject)
            warm_ups = {
                setting.label: _warm_up(setting, case, samples, subject, subjects.device) for setting in settings
            }
            for index in missing:
                runs = _round(case, settings, samples, index, subject, warm_ups)
                named = {"model": case.model, "solver": case.solver, "steps": case.steps, "guidance": case.guidance}
                line = {**named, "first": first, "samples": len(samples), "round": index, "runs": runs}
                folder.timing.append([line])
                advance(1)


@dataclass(frozen=True)
class WarmUp:
    """What is measured in the warm-up round.

    Attributes:
        nfe: Network evaluations per sample.
        memory: Peak memory beyond what was allocated before the run, in bytes.
    """

    nfe: float
    memory: int


def _warm_up(
    setting: Setting, case: Case, samples: Sequence[Sample], subject: Subject, device: torch.device
) -> WarmUp:
    nfe: list[float] = []
    memory = peak_memory(lambda: nfe.extend(run(setting, case, samples, subject).stats.nfe), device)
    return WarmUp(sum(nfe) / len(samples), memory)


def _round(
    case: Case,
    settings: Sequence[Setting],
    samples: Sequence[Sample],
    index: int,
    subject: Subject,
    warm_ups: Mapping[str, WarmUp],
) -> Record:
    """Measures one batch in every setting."""
    turn = index % len(settings)
    runs = {}
    for setting in (*settings[turn:], *settings[:turn]):
        stats = run(setting, case, samples, subject, counted=False).stats
        runs[setting.label] = {
            "nfe": warm_ups[setting.label].nfe,
            "seconds": stats.seconds,
            "network": stats.network_seconds,
            "controller": stats.controller_seconds,
            "memory": warm_ups[setting.label].memory,
        }
    return runs
