"""Fixtures that several test files of the bench share."""

from pathlib import Path

import pytest

from sadaflow.bench import parse_suite, run_bench
from support import checkpoints
from support.bench import MIXTURE
from support.paged_bench import paged_bench


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for checkpoints with random weights."""
    return tmp_path_factory.mktemp("random")


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed run of the suite `MIXTURE`; tests change copies of it."""
    folder = tmp_path_factory.mktemp("bench") / "whole"
    run_bench(parse_suite(MIXTURE, "m"), folder)
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips the figures of fronts, which take longer to draw than the toy problems to measure."""
    monkeypatch.setattr("sadaflow.bench.command.write_figures", lambda suite, measured, out: None)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.stable_diffusion(tmp_path_factory.mktemp("sd") / "tiny", "sd21")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished bench on a tiny random checkpoint; tests read it."""
    model = checkpoints.stable_diffusion(tmp_path_factory.mktemp("sd") / "tiny", "sd21")
    return paged_bench(model, tmp_path_factory.mktemp("bench") / "out")
