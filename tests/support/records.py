"""One sample of a trace in the terms of published rules."""

from typing import Any

import numpy as np

from sadaflow.sampling import Trace

Array = np.ndarray[Any, Any]


class Record:
    """One sample of a trace in a published rule's terms: latents x and network outputs v, float64 arrays by step.

    The checkpoints' networks predict v = alpha eps - sigma x0 (`flow` is false) or the velocity eps - x0.
    """

    def __init__(self, trace: Trace, row: int, flow: bool) -> None:
        self.x = trace.x[row].double().numpy()
        self.x0 = trace.x0[row].double().numpy()
        self.sigma = trace.sigma.numpy()
        self.alpha = self.sigma * np.exp(trace.log_snr.numpy())
        if flow:
            self.alpha = 1 - self.sigma
        self.flow, self.steps, self.modes = flow, len(self.sigma), trace.modes[row]
        self.v = np.stack([self._output(i) for i in range(self.steps)])

    def _output(self, i: int) -> Array:
        noise = (self.x[i] - self.alpha[i] * self.x0[i]) / self.sigma[i]
        return noise - self.x0[i] if self.flow else self.alpha[i] * noise - self.sigma[i] * self.x0[i]

    def x0_of(self, output: Array, i: int) -> Array:
        """Clean sample that `output` stands for at the latents of step i."""
        if self.flow:
            return self.x[i] - self.sigma[i] * output
        return self.alpha[i] * self.x[i] - self.sigma[i] * output


def size(x: Array) -> float:
    return float(np.abs(x).mean())
