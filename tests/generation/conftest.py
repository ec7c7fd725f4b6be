"""Fixtures that several test files of bulk generation share."""

from pathlib import Path

import pytest

from support.checkpoints import stable_diffusion


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stable_diffusion(tmp_path_factory.mktemp("many") / "tiny", "sd15")


@pytest.fixture
def here(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty but for a file of five prompts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.txt").write_text("fox\nowl\nred apple\nhouse\nkey\n")
    return tmp_path
