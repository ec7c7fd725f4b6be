"""Spectrum's growing windows: evaluations that become rarer along the run (arXiv 2603.01623)."""


def spectrum_steps(
    steps: int, *, window: float = 2, flex: float = 0.75, warmup: int = 5, last: int = 0
) -> frozenset[int]:
    """The evaluated steps: the first `warmup`, then the last of every window; a window is `flex` longer than the last.

    Args:
        steps: Number of steps, N.
        window: Length of the first window; windows are rounded down to whole steps.
        flex: Growth of the window with each evaluation.
        warmup: Number of steps evaluated at the start.
        last: Number of steps evaluated at the end.
    """
    evaluated, skipped = set(range(min(warmup, steps))), 0
    for step in range(warmup, steps):
        if (skipped + 1) % int(window) == 0:
            evaluated.add(step)
            window, skipped = round(window + flex, 3), 0
        else:
            skipped += 1
    return frozenset(evaluated | set(range(max(0, steps - last), steps)))
