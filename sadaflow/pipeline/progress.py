"""Progress bars of a sampling run and of a count."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..sampling.observing import Observer, Reply
from ..sampling.results import Step
from .heartbeat import Heartbeat


@contextmanager
def progress_observer(
    show: bool | None, total: int | None, observer: Observer | None = None
) -> Iterator[Observer | None]:
    """An observer that advances a progress bar on stderr at every step and calls another one; None if there is neither.

    Args:
        show: Whether to show the bar; None shows it on a terminal.
        total: Number of steps, if known.
        observer: The other observer, whose reply is passed on.
    """
    if not (sys.stderr.isatty() if show is None else show):
        yield observer
        return
    from tqdm import tqdm  # a dependency of huggingface-hub

    with tqdm(total=total, unit="step", leave=False) as bar:

        def advance(step: Step) -> Reply:
            bar.update()
            return None if observer is None else observer(step)

        yield advance


@contextmanager
def counting_bar(total: int, *, label: str, unit: str, **how: Any) -> Iterator[Callable[[int], None]]:
    """A function that advances a progress bar on stderr by a number; without a terminal, lines say how far it is.

    Args:
        total: The number at the end.
        label: What is being done.
        unit: What is counted, in the singular.
        how: Further arguments of tqdm.
    """
    if not sys.stderr.isatty():
        yield Heartbeat(label, total, unit)
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=label, unit=unit, **how) as bar:
        yield lambda count: bar.update(count) and None


@contextmanager
def counting(show: bool | None) -> Iterator[tuple[Callable[[str], None], Callable[[int], None]]]:
    """A function that names the present task, and one that counts evaluations, of a bar without a known end.

    Args:
        show: Whether to show the bar; None shows it on a terminal.
    """
    from tqdm import tqdm

    with tqdm(unit="evaluation", disable=None if show is None else not show) as bar:
        yield bar.set_description_str, lambda count: bar.update(count) and None
