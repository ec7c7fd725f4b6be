"""Runs a bench: from a suite to the report."""

import io
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ..files.atomic import write_atomically
from ..generation.workers import Shard
from ..metrics.registry import Metric, SetMetric, find_metrics
from ..pipeline.progress import counting_bar
from .reporting.page import page
from .reporting.tables import Measured, markdown
from .run import environment
from .run.folder import WORST, Folder
from .run.gather import arrange, finish
from .run.lines import Record, Say
from .run.repair import prepare
from .run.sweep import check, measure_sets, sweep
from .run.timing import measure, rounds
from .speed.architectures import is_random
from .speed.random_checkpoint import random_checkpoint
from .suite.model import Sample, Suite
from .suite.subjects import Subjects
from .suite.toml import parse_suite


def run_bench(
    suite: Suite,
    out: Path,
    *,
    resume: bool = False,
    timing: bool = False,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    metrics: Mapping[str, Metric] | None = None,
    shard: Shard = Shard(),  # noqa: B008 - frozen
    say: Say = lambda problem: None,
) -> str:
    """Measures a suite and writes the report.

    Args:
        suite: What to measure.
        out: Folder for measurements and report.
        resume: Continue an existing folder. Nothing that it holds is measured again.
        timing: Time the settings that the suite names, on a machine that should be idle. Otherwise fidelity is
            measured, and then seconds if the suite says so ("always").
        device: Where to sample; the CPU by default.
        dtype: Type of the weights.
        metrics: Metrics of the caller (see `sadaflow.metrics`), by the names that the suite uses.
        shard: Which share of the samples this process measures. With several processes no seconds are measured, and
            the last process to finish writes the report.
        say: Called with a line of text for everything in the folder that is damaged and is measured again.

    Returns:
        The tables of the report in Markdown.

    Raises:
        ValueError: If suite, folder, models and settings do not fit each other. Nothing has been measured yet.
        FileExistsError: If the folder exists and `resume` is False.
        BlockingIOError: If another command is writing to the folder.
    """
    device = device or torch.device("cpu")
    if timing and suite.timing is None:
        raise ValueError(f"suite {suite.name} has no [timing] table that names the settings to time")
    chosen = {} if timing else find_metrics(suite.metrics, device, metrics)
    if timing and shard.size > 1:
        raise ValueError("--timing needs a single process: several would slow each other down")
    identity, session = environment.identity(device, dtype), environment.session(device)
    passing = TemporaryDirectory()
    find = partial(_found, cache=Path(passing.name), dtype=dtype)
    subjects = Subjects(device, dtype, dict(suite.dimensions), find)

    def begin(held: ExitStack) -> Folder:
        opened = Folder.begin(out, suite, identity, session, resume or shard.start > 0)
        folder, share = held.enter_context(opened)
        prepare(folder, suite, say)
        for name, metric in chosen.items():
            folder.know_metric(name, _description(metric))
        check(suite, folder, subjects)
        share()
        return folder

    with passing, ExitStack() as held:
        if shard.size > 1:
            return _share(suite, out, identity, subjects, chosen, shard, lambda: begin(held))
        folder = begin(held)
        if not timing:
            with counting_bar(suite.size, label=suite.name, unit="sample", smoothing=0.05) as advance:
                sweep(suite, folder, subjects, chosen, advance)
            arrange(out, suite)
            measure_sets(suite, folder, chosen)
        if timing or (suite.timing is not None and suite.timing.always):
            with counting_bar(rounds(suite), label=suite.name, unit="round", smoothing=0.05) as advance:
                measure(suite, folder, subjects, advance)
        return report(out)


def _found(model: str, cache: Path, dtype: torch.dtype) -> str:
    """What `Pipeline.from_pretrained` takes for a model: its name, or the folder of a random checkpoint."""
    return str(random_checkpoint(model, cache, dtype)) if is_random(model) else model


def _share(
    suite: Suite,
    out: Path,
    identity: Mapping[str, str],
    subjects: Subjects,
    metrics: Mapping[str, Metric],
    shard: Shard,
    begin: Callable[[], object],
) -> str:
    """Runs one of several processes: the first opens the folder for all, the last to finish writes the report."""
    shard.lead(begin)
    with Folder.join(out, suite, identity, str(shard.rank)) as folder:
        check(suite, folder, subjects)
        with counting_bar(suite.size // shard.size, label=suite.name, unit="sample", smoothing=0.05) as advance:
            sweep(suite, folder, subjects, metrics, advance, shard)
        if not finish(out, suite):
            return f"process {shard.rank} of {shard.size} has finished; others have not, or --resume is needed"
        measure_sets(suite, Folder.read(out), metrics)
        return report(out)


def report(out: Path) -> str:
    """Writes table.md, report.html and the figures from the measurements in a folder.

    Args:
        out: Folder of a bench.

    Returns:
        The tables in Markdown.
    """
    folder = Folder.read(out)
    given = folder.header.get("samples")
    samples = None if given is None else [Sample(prompt, seed) for prompt, seed in given]
    suite = parse_suite(folder.header["suite"], folder.header["name"], samples)
    measured = Measured(folder.samples.read(), folder.sets.read(), folder.timing.read())
    text = markdown(suite, folder.header, measured)
    write_atomically(out / "table.md", text.encode("utf-8"))
    html = page(suite, folder.header, measured, out / WORST)
    write_atomically(out / "report.html", html.encode("utf-8"))
    write_figures(suite, measured, out)
    return text


def write_figures(suite: Suite, measured: Measured, out: Path) -> None:
    """Writes the fronts as PNG files into the folder `out`."""
    from .reporting.front_figure import draw_fronts  # needs matplotlib, which is slow to import

    for name, figure in draw_fronts(suite, measured.records):
        content = io.BytesIO()
        figure.savefig(content, format="png")
        write_atomically(out / f"{name}.png", content.getvalue())


def _description(metric: Metric) -> Record:
    if isinstance(metric, SetMetric):
        return {"kind": "set", "lower is better": True, "source": metric.source}
    return {"kind": "sample", "lower is better": metric.lower_is_better, "source": metric.source}
