"""Progress bars: of a sampling run, and of anything that is counted."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..sampling.results import Step


@contextmanager
def progress_observer(show: bool | None, total: int) -> Iterator[Callable[[Step], None] | None]:
    """An observer that moves a bar on stderr, or None where none is to be shown (None: only on a terminal)."""
    if not (sys.stderr.isatty() if show is None else show):
        yield None
        return
    from tqdm import tqdm  # a dependency of huggingface-hub

    with tqdm(total=total, unit="step", leave=False) as bar:

        def advance(step: Step) -> None:
            bar.update()

        yield advance


@contextmanager
def counting_bar(total: int, **how: Any) -> Iterator[Callable[[int], None]]:
    """What moves a bar on stderr, where that is a terminal, by a number; `how` is tqdm's."""
    from tqdm import tqdm

    with tqdm(total=total, disable=None, **how) as bar:
        yield lambda count: bar.update(count) and None
