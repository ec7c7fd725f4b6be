"""The tables of a report, and the report in Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...files.printable import cell
from ..run.lines import Record
from ..run.sweep import case_of
from ..run.timing import rounds
from ..suite.model import PLAIN, Case, Suite
from .fronts import CEILING, Reading, Row, Speed, cost_at, fidelity_at, fronts, rows, speeds


@dataclass(frozen=True)
class Table:
    """A table as it is shown.

    Attributes:
        caption: Sentence above the table.
        head: Names of the columns.
        lines: Cells.
        words: The first so many columns hold words, the others numbers or "-".
    """

    caption: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    words: int


@dataclass(frozen=True)
class Measured:
    """The measurements of a folder.

    Attributes:
        records: Lines of `samples.jsonl`.
        sets: Lines of `sets.jsonl`.
        timings: Lines of `timing.jsonl`.
    """

    records: Sequence[Record]
    sets: Sequence[Record] = ()
    timings: Sequence[Record] = ()


def case_tables(suite: Suite, header: Record, case: Case, table: Sequence[Row], measured: Measured) -> list[Table]:
    """Builds the tables of a case: methods at given speed-ups, all settings, values read off the fronts, and seconds.

    Args:
        suite: The suite that was measured.
        header: `header.json` of the folder.
        case: The case.
        table: Its rows, see `rows`.
        measured: Measurements of the folder.
    """
    timed = speeds(case, measured.timings)
    sets = [line for line in measured.sets if case_of(line) == case]
    tables = [_nearest(target, table, timed) for target in suite.questions.nearest if len(table) > 1]
    tables += [_settings(table, len(suite.samples_of(case)), header.get("metrics", {}), sets)]
    tables += _questions(suite, case, table)
    if timed:
        tables.append(_speeds(timed))
    return tables


def markdown(suite: Suite, header: Record, measured: Measured) -> str:
    """Returns the report in Markdown."""
    blocks = [f"# {suite.name}", *provenance(suite, header, measured)]
    for case in suite.cases:
        if table := rows(suite, case, measured.records):
            blocks.append(f"## {case.title}")
            for part in case_tables(suite, header, case, table, measured):
                blocks += [part.caption, _markdown(part)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def provenance(suite: Suite, header: Record, measured: Measured) -> list[str]:
    """Returns sentences about what was measured, on what, and whether it is complete."""
    found, timed = len(measured.records), len(measured.timings)
    sessions = header["sessions"]
    now = sessions[-1]
    counts = " or ".join(map(str, sorted({len(suite.samples_of(case)) for case in suite.cases})))
    lines = [
        f"{counts} samples per setting against the plain run of the same seed; cost is network evaluations "
        "per sample; percentile and worst are over all prompts and seeds; a sample counts at most "
        f"{CEILING:g} dB; fronts are interpolated linearly, >= and <= mark bounds beyond their ends.",
        f"sadaflow {header['sadaflow']} (source {now['source']}), torch {header['torch']}, Python {now['python']}, "
        f"{header['dtype']} on {header['device']}: {now['hardware']}, {now['threads']} threads, {now['platform']}.",
    ]
    models = ", ".join(f"{model} ({fingerprint})" for model, fingerprint in header["models"].items())
    lines.append(f"Weights: {models}.")
    lines += [f"{name}: {about['source']}." for name, about in header.get("metrics", {}).items()]
    if found < suite.size:
        lines.append(f"Not finished: {found} of {suite.size} samples.")
    if 0 < timed < rounds(suite):
        lines.append(f"Timing not finished: {timed} of {rounds(suite)} rounds.")
    for name, what in (("source", "edited code"), ("hardware", "other hardware"), ("threads", "other threads")):
        if len({str(session[name]) for session in sessions}) > 1:
            lines.append(f"Resumed on {what} ({', '.join(dict.fromkeys(str(session[name]) for session in sessions))}).")
    return lines


def _settings(table: Sequence[Row], expected: int, metrics: Record, sets: Sequence[Record]) -> Table:
    pictured, what = table[0].ssim is not None, _measure(table)
    head = ["method", "setting", "cost", f"{what} mean", f"{what} 5th percentile", f"{what} worst"]
    moving = any(row.worst_frame is not None for row in table)
    head += [f"{what} worst frame"] if moving else []
    head += ["SSIM mean", "SSIM worst"] if pictured else []
    head += ["latent error mean", "latent error worst"]
    for name, about in metrics.items():
        head += [name] if about["kind"] == "set" else [f"{name} mean", f"{name} worst"]
    values = {(line["setting"], line["metric"]): f"{line['value']:.4g}" for line in sets}
    lines = []
    for row in table:
        label = row.setting.label + ("" if row.samples == expected else f" ({row.samples} of {expected} samples)")
        cells = [row.setting.method, label, f"{row.cost:.1f}"]
        if row.setting == PLAIN:
            cells += ["-"] * ((7 if pictured else 5) + moving)
        else:
            cells += [f"{row.fidelity:.2f}", f"{row.fifth:.2f}", f"{row.worst:.2f}"]
            cells += ["-" if row.worst_frame is None else f"{min(CEILING, row.worst_frame):.2f}"] if moving else []
            cells += [f"{row.ssim:.4f}", f"{row.worst_ssim:.4f}"] if pictured else []
            cells += [f"{row.error:.2e}", f"{row.worst_error:.2e}"]
        for name, about in metrics.items():
            if about["kind"] == "set":
                cells.append(values.get((row.setting.label, name), "-"))
            elif name in row.metrics:
                mean, least, most = row.metrics[name]
                cells += [f"{mean:.4g}", f"{most if about['lower is better'] else least:.4g}"]
            else:
                cells += ["-", "-"]
        lines.append(tuple(cells))
    return Table("All settings:", tuple(head), tuple(lines), words=2)


def _nearest(target: float, table: Sequence[Row], timed: Mapping[str, Speed]) -> Table:
    """Lists the plain run, and of every method the setting whose speed-up is nearest `target`."""
    plain = max(row.cost for row in table)
    compared = [row for row in table if row.setting != PLAIN and (not timed or row.setting.label in timed)]

    def speedup(row: Row) -> float:
        return timed[row.setting.label].speedup if timed else plain / row.cost

    methods = dict.fromkeys(row.setting.method for row in compared)
    chosen = [
        min((row for row in compared if row.setting.method == method), key=lambda row: abs(speedup(row) - target))
        for method in methods
    ]
    pictured, what = table[0].ssim is not None, _measure(table)
    head = ["method", "setting", "NFE", "speed-up", f"{what} mean", f"{what} worst", *(["SSIM"] if pictured else [])]
    head += ["latent error", *(["peak memory (MB)"] if timed else [])]
    lines = []
    for row in (*(row for row in table if row.setting == PLAIN), *chosen):
        cells = [row.setting.method, row.setting.label, f"{row.cost:.1f}"]
        if row.setting == PLAIN:
            cells += ["1.00x", *["-"] * (4 if pictured else 3)]
        else:
            cells += [f"{speedup(row):.2f}x", f"{row.fidelity:.2f}", f"{row.worst:.2f}"]
            cells += [*([f"{row.ssim:.4f}"] if pictured else []), f"{row.error:.2e}"]
        cells += [f"{timed[row.setting.label].memory / 1e6:.1f}"] if timed else []
        lines.append(tuple(cells))
    unit = "seconds" if timed else "network evaluations"
    caption = f"Of every method the setting whose speed-up in {unit} is nearest {target:g}x:"
    return Table(caption, tuple(head), tuple(lines), words=2)


def _measure(table: Sequence[Row]) -> str:
    return "latent SNR" if table[0].ssim is None else "PSNR"


def _questions(suite: Suite, case: Case, table: Sequence[Row]) -> list[Table]:
    """Lists the fidelity of each front at given costs, and its cost at given fidelities, mean / worst."""
    mean, worst = fronts(table), fronts(table, worst=True)
    if not mean:
        return []
    plain = next((row.cost for row in table if row.setting == PLAIN), float(case.steps))
    costs = [plain / speedup for speedup in suite.questions.speedups]
    levels = [(f"{level:g} dB", level, level) for level in suite.questions.levels]
    levels += [
        (f"the fidelity of {row.setting.label} ({row.fidelity:.1f} / {row.worst:.1f})", row.fidelity, row.worst)
        for row in table
        if row.setting.label in suite.questions.rivals
    ]
    lines = []
    for method in mean:
        cells = [_pair(fidelity_at(mean[method], cost), fidelity_at(worst[method], cost)) for cost in costs]
        cells += [_pair(cost_at(mean[method], level), cost_at(worst[method], lowest)) for _, level, lowest in levels]
        lines.append((method, *cells))
    head = ("method", *(f"at cost {cost:.1f}" for cost in costs), *(f"cost at {name}" for name, _, _ in levels))
    return [Table(f"Read off the fronts, mean / worst ({_measure(table)} in dB):", head, tuple(lines), words=1)]


def _pair(mean: Reading | None, worst: Reading | None) -> str:
    return f"{_reading(mean)} / {_reading(worst)}"


def _reading(reading: Reading | None) -> str:
    return "-" if reading is None else f"{reading.bound}{reading.value:.1f}"


def _speeds(measured: dict[str, Speed]) -> Table:
    head = ("setting", "rounds", "seconds", "network seconds", "speed-up", "quartiles", "saved seconds / saved cost",
            "controller", "peak memory (MB)")  # fmt: skip
    lines = [
        (label, str(speed.rounds), f"{speed.seconds:.3f}", f"{speed.network:.3f}", f"{speed.speedup:.2f}x",
         f"{speed.low:.2f}-{speed.high:.2f}", "-" if speed.realised is None else f"{speed.realised:.2f}",
         f"{100 * speed.controller:.1f}%", f"{speed.memory / 1e6:.1f}")
        for label, speed in measured.items()
    ]  # fmt: skip
    return Table("Seconds against the plain run of the same round:", head, tuple(lines), words=1)


def _markdown(table: Table) -> str:
    """Returns the table in Markdown, with padded columns so that it can be read as plain text."""
    grid = [[cell(text).replace("|", "\\|") for text in line] for line in (table.head, *table.lines)]
    widths = [max(len(line[column]) for line in grid) for column in range(len(table.head))]

    def joined(cells: Sequence[str]) -> str:
        padded = (text.ljust(width) if column < table.words else text.rjust(width)
                  for column, (text, width) in enumerate(zip(cells, widths, strict=True)))  # fmt: skip
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * width if column < table.words else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([joined(grid[0]), joined(rule), *map(joined, grid[1:])])
