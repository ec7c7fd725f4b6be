"""The Markdown page of a run: checks, goals, what to fix, and the tables of every part."""

from collections.abc import Iterator, Sequence
from typing import Any

from .records import Record

_REHEARSAL = (
    "**A rehearsal on a CPU with small networks: it shows that every part runs. No number below says anything about a "
    "GPU.**"
)


def markdown(records: Sequence[Record]) -> str:
    """Returns the page of all records so far."""
    lines = ["# GPU benchmark", "", *_header(records), *_summary(records)]
    parts = [record["begun"] | {"part": record["part"]} for record in records if "begun" in record]
    for part in sorted(parts, key=lambda one: str(one["letter"])):
        lines += ["", *_part(part, [record for record in records if record["part"] == part["part"]])]
    return "\n".join(lines) + "\n"


def _header(records: Sequence[Record]) -> Iterator[str]:
    about = next((record["header"] for record in records if "header" in record), None)
    if about is None:
        return
    if about["small"]:
        yield from (_REHEARSAL, "")
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    yield f"{about['time']}. GPU: {about['gpu']}; CUDA {about['cuda']}; {about['host']}."
    yield f"Python {about['python']}; {versions}. Commit {about['commit']}."


def _summary(records: Sequence[Record]) -> Iterator[str]:
    checks = [record for record in records if "check" in record]
    goals = [record for record in records if "goal" in record]
    yield from ("", "## In short", "")
    yield f"{sum(one['passed'] for one in checks)} of {len(checks)} checks passed."
    for one in records:
        if "omitted" in one and not one["part"]:
            yield from ("", f"Left out: {_cell(one['omitted'])}: {_cell(one['why'])}.")
    if goals:
        yield from ("", "| goal | found | limit | met |", "|---|---|---|---|")
    for one in goals:
        sign = "at least" if one["at_least"] else "at most"
        yield f"| {_cell(one['goal'])} | {_cell(one['value'])} | {sign} {one['limit']:g} | {_mark(one['met'])} |"
    mend = [*_to_mend(records)]
    yield from ("", "## To mend", "")
    yield from mend or ["Nothing that was looked at."]


def _to_mend(records: Sequence[Record]) -> Iterator[str]:
    rehearsal = any(record["header"]["small"] for record in records if "header" in record)
    for one in records:
        if one.get("passed") is False:
            by = f": {_cell(one['error'])}, at most {one['tolerance']:g}" if "error" in one else ""
            yield f"- {one['part']}: **{_cell(one['check'])}**{by}{_note(one)}"
        elif "failed" in one:
            yield f"- {one['part']}: **{_cell(one['failed'])}** raised {_raised(one)}"
        elif one.get("ended", "done") != "done":
            yield f"- {one['part']}: **{one['ended']}** after {one['seconds']:.0f} s{_note(one)}"
        elif one.get("met") is False and not rehearsal:
            yield f"- {one['part']}: goal not met: {_cell(one['goal'])}"


def _part(part: Record, records: Sequence[Record]) -> Iterator[str]:
    letter = f"({part['letter']}) " if part["letter"] else ""
    yield f"## {letter}{part['title']}"
    tables = dict.fromkeys(record["table"] for record in records if "table" in record)
    for table in tables:
        rows = [record["columns"] for record in records if record.get("table") == table]
        yield from ("", f"{_cell(table)}:", "", *_table(rows))
    checks = [record for record in records if "check" in record]
    if checks:
        yield from ("", f"{sum(one['passed'] for one in checks)} of {len(checks)} checks passed.")
    measured = [one for one in checks if "error" in one]
    if measured:
        yield from ("", "| check | difference | at most | passed |", "|---|---|---|---|")
    for one in measured:
        found = f"{_cell(one['error'])} | {one['tolerance']:g} | {_mark(one['passed'])}"
        yield f"| {_cell(one['check'])} | {found} |"
    for one in records:
        if "omitted" in one:
            yield from ("", f"Left out: {_cell(one['omitted'])}: {_cell(one['why'])}.")
        elif "failed" in one:
            yield from ("", f"Failed: {_cell(one['failed'])}: {_raised(one)}.")
        elif "ended" in one:
            yield from (
                "",
                f"{one['ended'].capitalize()} after {one['seconds']:.1f} s of {one['box']:.0f}{_note(one)}.",
            )


def _table(rows: Sequence[Record]) -> Iterator[str]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    yield f"| {' | '.join(map(_cell, columns))} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(_cell(row.get(name)) for name in columns)} |"


def _raised(record: Record) -> str:
    return f"{record['type']} at {record['where']}: {_cell(record['message'])}"


def _note(record: Record) -> str:
    return f" ({_cell(record['note'])})" if record.get("note") else ""


def _mark(held: bool) -> str:
    return "yes" if held else "**no**"


def _cell(value: Any) -> str:
    """Formats a cell of a table, numbers with four digits."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return _mark(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(str(value).replace("|", "\\|").split())
