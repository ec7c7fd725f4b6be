"""Searches the best set of evaluated steps for a loaded pipeline."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..accelerators.auto.calibration import describe_solver
from ..accelerators.skipping.schedule import Schedule
from ..accelerators.steps.searched import Searched, read_searched
from ..files.atomic import check_target, write_file
from ..sampling.schedule_search import SearchEffort, check_search, sample_plainly, search_schedule
from .progress import counting
from .tuning import PROMPTS, Tuning, tuning_samples

if TYPE_CHECKING:
    from .sampler import Sampler


@dataclass(frozen=True)
class SearchSettings:
    """What is searched for.

    Attributes:
        evaluations: Number of evaluated steps.
        predictor: The predictor of the skipped steps, a key of `PREDICTORS`.
        correct: Whether skipped steps are taken again.
        effort: How much is measured.
    """

    evaluations: int
    predictor: str = "kriging"
    correct: bool = True
    effort: SearchEffort = SearchEffort()


def search_pipeline(
    pipe: "Sampler",
    settings: SearchSettings,
    path: str | Path,
    prompts: Sequence[str] = PROMPTS,
    *,
    progress: bool | None = None,
    **arguments: Any,
) -> Searched:
    """Searches the set of steps that keeps most of plain samples, and writes it to a file after every try.

    If the file exists, the search goes on from what it holds. `Schedule(evaluated="FILE.json")` samples with it.

    Args:
        pipe: The pipeline, without LoRAs.
        settings: What is searched for.
        path: The .json file.
        prompts: Prompts like those that will be sampled. They are taken in turn, each time with another seed.
        progress: Whether to show progress on stderr; None shows it on a terminal.
        **arguments: What to search for: solver, steps, grid, guidance, height and width, as for a call.

    Returns:
        What the file holds in the end.

    Raises:
        ValueError: If there is no prompt, if an argument is unknown or does not fit the checkpoint, if the set is not
            possible, if LoRAs are merged, or if the file is one of another search.
    """
    path = Path(path)
    check_target(path, overwrite=True, ending=".json")
    wanted = Schedule(evaluated="1", predictor=settings.predictor, correct=settings.correct)
    with counting(progress) as (notify, advance):
        tuning = tuning_samples(pipe, prompts, settings.effort.batch, arguments, advance, "schedule")
        own: dict[str, Any] = {
            "weights": pipe.calibrations.weights,
            "guidance": tuning.guidance,
            "samples": settings.effort.samples,
            "prompts": sha256("\n".join(prompts).encode()).hexdigest()[:16],
        }
        check_search(tuning.solver, settings.evaluations, wanted, settings.effort)
        tried = _tried(path, settings, tuning, own) if path.is_file() else {}
        notify("plain runs")
        plain = sample_plainly(tuning.solver, tuning.batches, settings.effort.samples)

        def keep(found: Searched) -> None:
            content = replace(found, **own).to_json()
            write_file(path, (json.dumps(content, indent=1) + "\n").encode(), overwrite=True)

        how: dict[str, Any] = {"effort": settings.effort, "tried": tried, "notify": notify, "keep": keep}
        search_schedule(plain, settings.evaluations, wanted, **how)
    return read_searched(path)


def _tried(path: Path, settings: SearchSettings, tuning: Tuning, own: dict[str, Any]) -> dict[str, float]:
    """What an earlier search has tried; raises ValueError if it was another one."""
    found = read_searched(path)
    this = {
        "steps": tuning.solver.n_evals,
        "evaluations": settings.evaluations,
        "predictor": settings.predictor,
        "correct": settings.correct,
        "solver": describe_solver(tuning.solver),
        **own,
    }
    other = {name: getattr(found, name) for name in this if name not in ("steps", "evaluations")}
    other |= {"steps": len(found.mask), "evaluations": found.mask.count("1")}
    for name, value in this.items():
        if other[name] != value:
            raise ValueError(f"{path} is one of another search: {name} {other[name]!r}, not {value!r}; name another")
    return dict(found.tried)
