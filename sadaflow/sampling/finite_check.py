"""Checks that the outputs of denoisers and decoders contain no NaN or infinity."""

import math
from collections import deque

import torch
from torch import Tensor

from sadaflow.solvers import Solver

from ..device.readback import Readback


class FiniteCheck:
    """Checks that predicted x0 contain no NaN or infinity.

    Args:
        solver: The solver of the run, for messages.
        lag: Whether each x0 is checked after the next step, so that the host does not wait for work that it has just
            queued on an asynchronous device.
    """

    def __init__(self, solver: Solver, lag: bool) -> None:
        self._solver, self._lag = solver, lag
        self._waiting: deque[tuple[Tensor, Readback, int]] = deque()  # x0, its sum, its step; oldest first

    def check(self, x0: Tensor, step: int) -> None:
        """Checks x0 (B, ...) of `step`, with `lag` later.

        Raises:
            FloatingPointError: if one is not finite, with its step and the samples.
        """
        self._waiting.append((x0, Readback(x0.sum()), step))
        if not self._lag:
            self.finish()

    def catch_up(self, left: int = 1) -> None:
        """Checks the x0 that are still pending, except the newest `left` of them. Called at the end of every step.

        Raises:
            FloatingPointError: as `check` does.
        """
        while len(self._waiting) > left:
            self._read(*self._waiting.popleft())

    def finish(self) -> None:
        """Checks every x0 that is still pending.

        Raises:
            FloatingPointError: as `check` does.
        """
        self.catch_up(0)

    def _read(self, x0: Tensor, total: Readback, step: int) -> None:
        if all(map(math.isfinite, total.read())):
            return
        bad = [row for row, sample in enumerate(x0) if not bool(torch.isfinite(sample).all())]
        if bad:
            node = self._solver.nodes[step]
            raise FloatingPointError(
                f"x0 is not finite at step {step} of {self._solver.n_evals} (t={node.t:.4g}, sigma={node.sigma:.4g}) "
                f"for samples {bad}: check the checkpoint, the dtype (float16 overflows where bfloat16 and float32 do "
                "not) and the guidance"
            )


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
