"""Checks that the outputs of denoisers and decoders contain no NaN or infinity."""

import math
from collections import deque

import torch
from torch import Tensor

from sadaflow.solvers import Solver

from ..device.readback import Readback

_Pending = tuple[Tensor, Tensor, Readback, int]
"""States, x0, its sum, and the step."""


class FiniteCheck:
    """Checks that predicted x0, and the states that the solver makes of them, contain no NaN or infinity.

    Args:
        solver: The solver of the run, for messages.
        lag: Whether each x0 is checked after the next step, so that the host does not wait for work that it has just
            queued on an asynchronous device.
    """

    def __init__(self, solver: Solver, lag: bool) -> None:
        self._solver, self._lag = solver, lag
        self._waiting: deque[_Pending] = deque()  # oldest first

    def check(self, x: Tensor, x0: Tensor, step: int) -> None:
        """Checks the states x (B, ...) at `step` and x0 (B, ...), with `lag` later.

        Raises:
            FloatingPointError: if one is not finite, with its step and the samples.
        """
        self._waiting.append((x, x0, Readback(x0.sum()), step))
        if not self._lag:
            self.catch_up(0)

    def catch_up(self, left: int = 1) -> None:
        """Checks what is still pending, except the newest `left` steps. Called at the end of every step.

        Raises:
            FloatingPointError: as `check` does.
        """
        while len(self._waiting) > left:
            self._read(*self._waiting.popleft())

    def finish(self, x: Tensor) -> None:
        """Checks what is still pending, and the last states x (B, ...).

        Raises:
            FloatingPointError: as `check` does.
        """
        last = Readback(x.sum())
        self.catch_up(0)
        if not all(map(math.isfinite, last.read())) and (bad := _not_finite(x)):
            self._blame_solver(bad, self._solver.n_evals)

    def _read(self, x: Tensor, x0: Tensor, total: Readback, step: int) -> None:
        if all(map(math.isfinite, total.read())):
            return
        if bad := _not_finite(x):
            self._blame_solver(bad, step)
        if bad := _not_finite(x0):
            raise FloatingPointError(
                f"x0 is not finite at step {step} of {self._where(step)} "
                f"for samples {bad}: check the checkpoint, the dtype (float16 overflows where bfloat16 and float32 do "
                "not) and the guidance"
            )

    def _blame_solver(self, bad: list[int], step: int) -> None:
        """Raises FloatingPointError for states that are not finite at evaluation `step`."""
        if step == 0:
            raise FloatingPointError(f"the start noise is not finite for samples {bad}")
        name = type(self._solver).__name__
        raise FloatingPointError(
            f"x is not finite after step {step - 1} of {self._where(step - 1)} for samples {bad}, although x0 was: the "
            f"solver {name} made it; check_solver examines it"
        )

    def _where(self, step: int) -> str:
        node = self._solver.nodes[step]
        return f"{self._solver.n_evals} (t={node.t:.4g}, sigma={node.sigma:.4g})"


def _not_finite(x: Tensor) -> list[int]:
    """Indices of the samples of x (B, ...) that contain a NaN or an infinity."""
    return [row for row, sample in enumerate(x) if not bool(torch.isfinite(sample).all())]


def require_finite_output(network: str, dtype: torch.dtype, output: Tensor) -> None:
    """Checks the output of a decoder, with one wait for the device.

    Args:
        network: Its name in the checkpoint ("vae", "vocoder").
        dtype: Dtype of its weights.
        output: (B, ...), before anything is clamped: a clamp turns infinity into white.

    Raises:
        FloatingPointError: if it is not finite, with the network, the dtype and the samples.
    """
    if bool(torch.isfinite(output).all()):
        return
    bad = [row for row, sample in enumerate(output) if not bool(torch.isfinite(sample).all())]
    name = str(dtype).removeprefix("torch.")
    remedy = (
        f"its activations overflow in {name}; load the pipeline with dtype=torch.bfloat16 or torch.float32 "
        "(--dtype bfloat16, --dtype float32)"
        if dtype is torch.float16
        else f"check the weights of the checkpoint's {network}"
    )
    raise FloatingPointError(f"the output of the {network} is not finite for samples {bad} in {name}: {remedy}")
