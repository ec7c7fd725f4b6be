"""Fixtures that several test files of the command line share."""

from pathlib import Path
from typing import Any

import pytest

import sadaflow.cli.load
from support.stand_in_pipeline import StandIn


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    """Loads the stand-in instead of any checkpoint, in an empty current folder."""
    made = StandIn()

    class Loader:
        @staticmethod
        def from_pretrained(model: str | None, **arguments: Any) -> StandIn:
            return made

    monkeypatch.setattr(sadaflow.cli.load, "Pipeline", Loader)
    monkeypatch.chdir(tmp_path)
    return made
