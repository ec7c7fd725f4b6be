"""The program of docs/words.md runs."""

import numpy as np
import pytest

from support.pages import run_program


@pytest.mark.filterwarnings("error::UserWarning")
def test_the_program_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    page = run_program("words.md", monkeypatch)
    pictures = {name: getattr(page, name).images[0] for name in ("again", "long", "more", "turned", "given")}
    difference = np.asarray(pictures["again"], int) - np.asarray(page.out.images[1], int)
    assert abs(difference).max() <= 1  # samples of a batch may differ in rounding
    assert len({picture.tobytes() for picture in pictures.values()}) == 5
    assert capsys.readouterr().out.startswith("1 [")
