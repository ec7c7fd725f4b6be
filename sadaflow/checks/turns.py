"""Lets two runs take turns, step by step."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from .limit import OutOfTime, interrupt

Job = Callable[[Callable[[Any], None]], Any]


def alternate(jobs: Sequence[Job]) -> list[Any]:
    """Runs two jobs in turns and returns what they return.

    Args:
        jobs: Each is called with a function that it must call after each of its steps, and goes on in its next turn.

    Raises:
        Exception: the first that a job raises.
    """
    turns = [threading.Semaphore(index == 0) for index in range(len(jobs))]
    results: list[Any] = [None] * len(jobs)
    failures: list[BaseException] = []
    ended = [False] * len(jobs)

    def work(index: int) -> None:
        def hand_over(_: Any = None) -> None:
            if not ended[1 - index]:
                turns[1 - index].release()
                turns[index].acquire()

        turns[index].acquire()
        try:
            results[index] = jobs[index](hand_over)
        except BaseException as failure:
            failures.append(failure)
        finally:
            ended[index] = True
            turns[1 - index].release()

    threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(len(jobs))]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(0.05)
    except OutOfTime:
        for thread in threads:
            interrupt(thread.ident or 0)
        raise
    if failures:
        raise failures[0]
    return results
