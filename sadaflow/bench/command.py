"""A bench from its suite to its report."""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from ..measures import Metric, SetMetric, find_metrics
from ..output_file import write_atomically
from . import environment
from .folder import Folder, Record
from .page import page
from .picture import draw_fronts
from .subjects import Subjects
from .suite import Sample, Suite
from .suite_file import parse_suite
from .sweep import Advance, check, sweep
from .tables import Measured, markdown
from .timing import measure, rounds
from .worst import WORST

Bar = Callable[[int, str], "Iterator[Advance]"]


def run_bench(
    suite: Suite,
    out: Path,
    *,
    resume: bool = False,
    timing: bool = False,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    metrics: Mapping[str, Metric] | None = None,
) -> str:
    """Measure what `suite` asks for into the folder `out`, and write its report there; returns the tables (Markdown).

    With `resume` an existing folder is continued: nothing that it holds is measured again. With `timing` the settings
    that the suite names for it are timed, for which the machine should be idle; else fidelity is measured, and then
    seconds too where the suite says so. `metrics` are those of the caller's own, by the names that the suite has for
    them (see `sadaflow.measures`).
    Raises ValueError where suite, folder, models and settings do not fit each other, before any work.
    """
    device = device or torch.device("cpu")
    if timing and suite.timing is None:
        raise ValueError(f"suite {suite.name} has no [timing] table that names the settings to time")
    chosen = {} if timing else find_metrics(suite.metrics, device, metrics)
    identity, session = environment.identity(device, dtype), environment.session(device)
    folder = Folder.open(out, suite, identity, session, resume)
    for lines in (folder.samples, folder.sets, folder.timing):
        lines.mend()
    for name, metric in chosen.items():
        folder.know_metric(name, _told(metric))
    subjects = Subjects(device, dtype)
    check(suite, folder, subjects)
    if not timing:
        with _bar(suite.size, "sample") as advance:
            sweep(suite, folder, subjects, chosen, advance)
    if timing or (suite.timing is not None and suite.timing.always):
        with _bar(rounds(suite), "round") as advance:
            measure(suite, folder, subjects, advance)
    return report(out)


def report(out: Path) -> str:
    """Write table.md, report.html and the pictures from what the folder holds; returns the tables."""
    folder = Folder.read(out)
    given = folder.header.get("samples")
    samples = None if given is None else [Sample(prompt, seed) for prompt, seed in given]
    suite = parse_suite(folder.header["suite"], folder.header["name"], samples)
    measured = Measured(folder.samples.read(), folder.sets.read(), folder.timing.read())
    text = markdown(suite, folder.header, measured)
    write_atomically(out / "table.md", text.encode("utf-8"))
    html = page(suite, folder.header, measured, out / WORST)
    write_atomically(out / "report.html", html.encode("utf-8"))
    for name, figure in draw_fronts(suite, measured.records):
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=160)
        write_atomically(out / f"{name}.png", content.getvalue())
    return text


def _told(metric: Metric) -> Record:
    if isinstance(metric, SetMetric):
        return {"kind": "set", "lower is better": True, "source": metric.source}
    return {"kind": "sample", "lower is better": metric.lower_is_better, "source": metric.source}


@contextmanager
def _bar(total: int, unit: str) -> Iterator[Advance]:
    """A progress bar on stderr where that is a terminal."""
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, disable=None, smoothing=0.05) as bar:
        yield lambda count: bar.update(count) and None
