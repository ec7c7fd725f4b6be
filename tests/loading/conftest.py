"""A checkpoint that a test may damage."""

import shutil
from pathlib import Path

import pytest

from support.checkpoints import stable_diffusion


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the style of SD 1.5, made once for each file of tests."""
    return stable_diffusion(tmp_path_factory.mktemp("hub") / "sd15", "sd15")


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(pristine, tmp_path / "checkpoint"))
