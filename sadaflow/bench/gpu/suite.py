"""Runs the tests of the checkout that need a GPU, in a process of pytest."""

import importlib.util
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

from .records import Record, Setup, omitted, row, verdict

_FILE = "tests/device/test_cuda.py"
_OUTCOMES = ("PASSED", "FAILED", "ERROR", "SKIPPED")


def run(graphs: bool, setup: Setup) -> Iterator[Record]:
    """Runs tests/device/test_cuda.py: the tests of CUDA graphs, which compile first, or all others."""
    if importlib.util.find_spec("pytest") is None:
        yield omitted(_FILE, "pytest is not installed")
        return
    if not (setup.root / _FILE).is_file():
        yield omitted(_FILE, "this is no checkout: the tests are not installed")
        return
    if graphs and not setup.cuda:
        yield omitted(f"{_FILE}, graphs", "a CPU has no CUDA graphs")
        return
    yield from _outcomes(setup, ["-k", "graphs" if graphs else "not graphs"])


def _outcomes(setup: Setup, options: list[str]) -> Iterator[Record]:
    """Yields a record for every failed test, immediately, and at the end the numbers of outcomes."""
    command = [sys.executable, "-m", "pytest", _FILE, "-v", "--tb=line", "-rN", "-p", "no:cacheprovider", *options]
    counts: Counter[str] = Counter()
    process = subprocess.Popen(
        command, cwd=setup.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL
    )
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        outcome = next((one for one in _OUTCOMES if f" {one}" in line and line.startswith(_FILE)), None)
        if outcome is None:
            continue
        counts[outcome.lower()] += 1
        if outcome in ("FAILED", "ERROR"):
            yield verdict(line.split()[0].removeprefix(f"{_FILE}::"), False, "see the log")
    code = process.wait()
    yield row(_FILE, options=" ".join(options), **{one.lower(): counts[one.lower()] for one in _OUTCOMES})
    if code not in (0, 1, 5) or not counts:
        yield verdict(f"pytest {' '.join(options)}", False, f"exit code {code}; see the log")
