"""Suites: what a bench measures, the files that describe it, and the models that are sampled."""

from .model import Case, Sample, Setting, Suite
from .toml import load_suite, parse_suite, shipped_suites

__all__ = ["Case", "Sample", "Setting", "Suite", "load_suite", "parse_suite", "shipped_suites"]
