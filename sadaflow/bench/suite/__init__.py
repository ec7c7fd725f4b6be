"""What a bench measures: suites, their files, and the models that they sample."""

from .model import Case, Sample, Setting, Suite
from .toml import load_suite, parse_suite, shipped_suites

__all__ = ["Case", "Sample", "Setting", "Suite", "load_suite", "parse_suite", "shipped_suites"]
