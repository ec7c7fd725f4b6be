"""Progress of an examination on a terminal, if tqdm is installed."""

import sys
from types import TracebackType
from typing import Any


class Progress:
    """A progress bar; shows nothing if standard error is not a terminal or tqdm is missing.

    Args:
        title: what is measured.
        total: number of parts.
        show: whether to show the bar; None shows it on a terminal.
    """

    def __init__(self, title: str, total: int, show: bool | None) -> None:
        self._bar: Any = None
        if show or (show is None and sys.stderr.isatty()):
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return
            self._bar = tqdm(total=total, desc=title, leave=False)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: object, where: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, part: str) -> None:
        """Counts a part as done."""
        if self._bar is not None:
            self._bar.set_postfix_str(part)
            self._bar.update()
