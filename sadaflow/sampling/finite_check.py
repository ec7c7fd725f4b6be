"""Checks that the outputs of denoisers and decoders contain no NaN or infinity."""

import math

import torch
from torch import Tensor

from sadaflow.solvers import Solver

from ..device.readback import Readback


class FiniteCheck:
    """Raises FloatingPointError, naming step and samples, for an x0 that holds NaN or infinity.

    With `lag` it looks at each step's answer when the next one comes, so that on a device that works by itself the host
    never waits for the step it has just asked for.
    """

    def __init__(self, solver: Solver, lag: bool) -> None:
        self._solver, self._lag = solver, lag
        self._waiting: tuple[Tensor, Readback, int] | None = None  # an answer, its sum, its step

    def check(self, x0: Tensor, step: int) -> None:
        """x0 (B, ...) of `step`."""
        self.finish()
        self._waiting = x0, Readback(x0.sum()), step
        if not self._lag:
            self.finish()

    def finish(self) -> None:
        """Look at what has not been looked at."""
        if self._waiting is None:
            return
        (x0, total, step), self._waiting = self._waiting, None
        if all(map(math.isfinite, total.read())):
            return
        bad = [row for row, one in enumerate(x0) if not bool(torch.isfinite(one).all())]
        if bad:
            node = self._solver.nodes[step]
            raise FloatingPointError(
                f"x0 is not finite at step {step} of {self._solver.n_evals} (t={node.t:.4g}, sigma={node.sigma:.4g}) "
                f"for samples {bad}: check the checkpoint, the dtype (float16 overflows where bfloat16 and float32 do "
                "not) and the guidance"
            )


def require_finite_output(network: str, dtype: torch.dtype, output: Tensor) -> None:
    """Check the output of a decoder, with one wait for the device.

    Args:
        network: its name in the checkpoint ("vae", "vocoder").
        dtype: what its weights compute in.
        output: (B, ...), before anything is clamped: a clamp turns infinity into white.

    Raises:
        FloatingPointError: naming the network, the dtype and the samples.
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
