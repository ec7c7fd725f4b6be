"""An accelerator that replays recorded decisions, to time the pattern of a real run on random weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sadaflow.solvers import Solver, State

from ...accelerators.base import Mode, Run
from ...accelerators.history import NodeBuffer, lagrange
from ...accelerators.replay import Replay
from ...device.indexing import taken
from ...device.readback import Readback
from ...loading.json_file import read_object

Modes = Sequence[Sequence[Mode]]
_ORDER = 2
_REPLAYED = frozenset(mode for mode in Mode if mode is Mode.FULL or not mode.evaluates)


@dataclass(frozen=True)
class Forced:
    """An accelerator that evaluates and skips as recorded.

    On random weights the decisions of an accelerator are meaningless, but the seconds that a pattern of decisions takes
    do not depend on the weights. The work outside the network resembles that of `Auto`: extrapolation from the last
    three evaluations (here parabolas in log-SNR), the distance of each new evaluation from its extrapolation, and
    correction of skipped steps. `Auto` measures four such distances.

    Attributes:
        modes: For each sample, the mode of every step.

    Raises:
        ValueError: If a mode runs a part of the network, or one of the first two steps is skipped.
    """

    modes: Modes

    def __post_init__(self) -> None:
        for row, modes in enumerate(self.modes):
            part = next((mode for mode in modes if mode not in _REPLAYED), None)
            if part is not None:
                raise ValueError(f"mode {part.value!r} of sample {row} runs part of the network and cannot be replayed")
            if not all(mode.evaluates for mode in modes[:2]):
                raise ValueError(f"sample {row} skips one of the first two steps, which cannot be estimated")

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        lengths = {len(modes) for modes in self.modes}
        if len(self.modes) < shape[0] or lengths != {solver.n_evals}:
            raise ValueError(
                f"recorded modes are of {len(self.modes)} samples and {sorted(lengths)} steps; {shape[0]} samples of "
                f"{solver.n_evals} steps are sampled"
            )
        return _Run(self.modes, solver, shape[0])


class _Run(Run):
    def __init__(self, modes: Modes, solver: Solver, samples: int) -> None:
        super().__init__(samples)
        self.modes = modes
        self.log_snr = [node.log_snr for node in solver.nodes]
        self.nodes = NodeBuffer(_ORDER + 2, samples)
        self.replay = Replay(solver, samples)

    def plan(self, step: int) -> Sequence[Mode]:
        return [modes[step] for modes in self.modes[: self.samples]]

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return self.nodes.at(rows, self.log_snr[step], _ORDER + 1)

    def revise(self, state: State, x0: Tensor) -> State:
        step = state.step
        evaluated = [row for row, mode in enumerate(self.plan(step)) if mode.evaluates]
        fresh = taken(x0, evaluated)
        if evaluated and self.nodes.counts[evaluated].all():
            weights = lagrange(self.nodes.times[evaluated, : _ORDER + 1], self.log_snr[step])
            Readback(self.nodes.distances(evaluated, weights[None], fresh)).read()  # as a decision needs
        self.nodes.push(evaluated, self.log_snr[step], fresh)
        return self.replay.corrected(state, evaluated, self._interpolated)

    def _interpolated(self, rows: Sequence[int], steps: Sequence[int]) -> Iterator[Tensor]:
        at = np.array([self.log_snr[step] for step in steps])[:, None]
        return self.nodes.series(rows, lagrange(self.nodes.times[list(rows), : _ORDER + 2], at))


def replayed(path: Path, steps: int) -> dict[str, Forced]:
    """Reads the recordings of a file (see `read_modes`) that can be replayed in `steps` steps.

    Raises:
        ValueError: If there are none.
    """
    found = {}
    for name, modes in read_modes(path).items():
        if all(len(sample) == steps and _REPLAYED.issuperset(sample) for sample in modes):
            found[name] = Forced(modes)
    if not found:
        raise ValueError(f"{path} has no modes of {steps} steps without evaluations of a part of the network")
    return found


def read_modes(path: Path) -> dict[str, Modes]:
    """Reads recorded modes by name.

    Args:
        path: JSON file {"modes": {name: [[mode, ...] per sample]}}, as `bench speed` writes it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not hold modes. The message names what is wrong.
    """
    if not path.is_file():
        raise FileNotFoundError(f"the file {path} of recorded modes does not exist")
    recorded = read_object(path).get("modes")
    if not isinstance(recorded, dict) or not recorded:
        raise ValueError(f"{path} has no recorded modes: an object {{name: [[mode, ...] per sample]}} under 'modes'")
    known = {mode.value for mode in Mode}
    made: dict[str, Modes] = {}
    for name, samples in recorded.items():
        sound = isinstance(samples, list) and samples and all(isinstance(modes, list) for modes in samples)
        if not sound or any(mode not in known for modes in samples for mode in modes):
            raise ValueError(f"{path}: {name!r} is not a list of {', '.join(sorted(known))} per sample")
        made[name] = [[Mode(mode) for mode in modes] for modes in samples]
    return made
