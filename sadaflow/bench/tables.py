"""The report of a bench in Markdown."""

from collections.abc import Sequence

from .folder import Record
from .fronts import CEILING, Reading, Row, Speed, cost_at, fidelity_at, fronts, rows, speeds
from .suite import PLAIN, Case, Suite
from .timing import rounds


def markdown(suite: Suite, header: Record, records: Sequence[Record], timings: Sequence[Record]) -> str:
    """Tables of all cases: every setting, its seconds where timed, and what every front reaches."""
    expected = len(suite.samples)
    blocks = [f"# {suite.name}", _provenance(suite, header, len(records), len(timings))]
    for case in suite.cases:
        table = rows(suite, case, records)
        if not table:
            continue
        blocks += [f"## {case.title}", _settings(table, expected), _questions(suite, case, table)]
        if measured := speeds(case, timings):
            blocks += ["Seconds against the plain run of the same round:", _speeds(measured)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _settings(table: Sequence[Row], expected: int) -> str:
    pictured, what = table[0].ssim is not None, _measure(table)
    head = ["method", "setting", "cost", f"{what} mean", f"{what} worst"]
    head += ["SSIM mean", "SSIM worst"] if pictured else []
    head += ["latent error mean", "latent error worst"]
    lines = []
    for row in table:
        label = row.setting.label + ("" if row.samples == expected else f" ({row.samples} of {expected} samples)")
        cells = [row.setting.method, label, f"{row.cost:.1f}"]
        if row.setting == PLAIN:
            lines.append([*cells, *["-"] * (len(head) - 3)])
            continue
        cells += [f"{row.fidelity:.2f}", f"{row.worst:.2f}"]
        cells += [f"{row.ssim:.4f}", f"{row.worst_ssim:.4f}"] if pictured else []
        lines.append([*cells, f"{row.error:.2e}", f"{row.worst_error:.2e}"])
    return _table(head, lines, text=2)


def _measure(table: Sequence[Row]) -> str:
    return "latent SNR" if table[0].ssim is None else "PSNR"


def _questions(suite: Suite, case: Case, table: Sequence[Row]) -> str:
    """What each method's front has at given costs, and what it costs at given fidelities, mean / worst."""
    mean, worst = fronts(table), fronts(table, worst=True)
    if not mean:
        return ""
    plain = next((row.cost for row in table if row.setting == PLAIN), float(case.steps))
    costs = [plain / speedup for speedup in suite.questions.speedups]
    levels = [(f"{level:g} dB", level, level) for level in suite.questions.levels]
    levels += [
        (f"that of {row.setting.label} ({row.fidelity:.1f} / {row.worst:.1f})", row.fidelity, row.worst)
        for row in table
        if row.setting.label in suite.questions.rivals
    ]
    lines = []
    for method in mean:
        cells = [_pair(fidelity_at(mean[method], cost), fidelity_at(worst[method], cost)) for cost in costs]
        cells += [_pair(cost_at(mean[method], one), cost_at(worst[method], other)) for _, one, other in levels]
        lines.append([method, *cells])
    head = ["method", *(f"at cost {cost:.1f}" for cost in costs), *(f"cost at {name}" for name, _, _ in levels)]
    caption = f"Read off the fronts, mean / worst ({_measure(table)} in dB):"
    return caption + "\n\n" + _table(head, lines, text=1)


def _pair(mean: Reading | None, worst: Reading | None) -> str:
    return f"{_reading(mean)} / {_reading(worst)}"


def _reading(reading: Reading | None) -> str:
    return "-" if reading is None else f"{reading.bound}{reading.value:.1f}"


def _speeds(measured: dict[str, Speed]) -> str:
    head = ["setting", "rounds", "seconds", "speed-up", "quartiles", "saved seconds / saved cost", "controller"]
    lines = [
        [label, str(one.rounds), f"{one.seconds:.3f}", f"{one.speedup:.2f}x", f"{one.low:.2f}-{one.high:.2f}",
         "-" if one.realised is None else f"{one.realised:.2f}", f"{100 * one.controller:.1f}%"]
        for label, one in measured.items()
    ]  # fmt: skip
    return _table(head, lines, text=1)


def _provenance(suite: Suite, header: Record, found: int, timed: int) -> str:
    sessions = header["sessions"]
    now = sessions[-1]
    lines = [
        f"{len(suite.samples)} samples a setting against the plain run of the same seed; cost is network evaluations a "
        "sample; worst is the lowest of all prompts and seeds; a sample counts at most "
        f"{CEILING:g} dB; fronts are read linearly between their points, >= and <= beyond their ends.",
        f"sadaflow {header['sadaflow']} (source {now['source']}), torch {header['torch']}, Python {now['python']}, "
        f"{header['dtype']} on {header['device']}: {now['hardware']}, {now['threads']} threads, {now['platform']}.",
    ]
    models = ", ".join(f"{model} ({fingerprint})" for model, fingerprint in header["models"].items())
    lines.append(f"Weights: {models}.")
    if found < suite.size:
        lines.append(f"Not finished: {found} of {suite.size} samples.")
    if 0 < timed < rounds(suite):
        lines.append(f"Timing not finished: {timed} of {rounds(suite)} rounds.")
    for name, what in (("source", "edited code"), ("hardware", "other hardware"), ("threads", "other threads")):
        if len({str(one[name]) for one in sessions}) > 1:
            lines.append(f"Resumed on {what} ({', '.join(dict.fromkeys(str(one[name]) for one in sessions))}).")
    return "\n\n".join(lines)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]], text: int) -> str:
    """A Markdown table, its columns padded for reading as plain text; the first `text` columns are left-aligned."""
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]

    def joined(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) if column < text else cell.rjust(width)
                  for column, (cell, width) in enumerate(zip(cells, widths, strict=True)))  # fmt: skip
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * width if column < text else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([joined(head), joined(rule), *map(joined, lines)])
