"""The bench: measures accelerators and plain rivals on the same samples, as fronts of fidelity over cost."""

from .command import report, run_bench
from .suite.model import Case, Sample, Setting, Suite
from .suite.toml import load_suite, parse_suite, shipped_suites

__all__ = ["Case", "Sample", "Setting", "Suite", "load_suite", "parse_suite", "report", "run_bench", "shipped_suites"]
