"""An accelerator whose decisions are read from a file: the pattern of a real run on a network that is not one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sadaflow.solvers import Solver, State

from ...accelerators.base import Mode, Run
from ...accelerators.history import NodeBuffer
from ...accelerators.replay import Replay
from ...loading.json_file import read_object

Modes = Sequence[Sequence[Mode]]
_ORDER = 2
_REPLAYED = frozenset(mode for mode in Mode if mode is Mode.FULL or not mode.evaluates)


@dataclass(frozen=True)
class Forced:
    """Evaluate and skip as `modes` say, one sequence per sample, one mode per step.

    On random weights an accelerator's own decisions mean nothing, but the seconds that a pattern of decisions leaves do
    not depend on the weights. What is done outside the network is of the kind that `Auto` does: sums of the last three
    evaluations, here parabolas in log-SNR, the distance of each new one from its extrapolation, and skipped steps taken
    again. `Auto` measures four such distances.
    Raises ValueError for modes that run a part of the network, and for a first step that is skipped.
    """

    modes: Modes

    def __post_init__(self) -> None:
        for row, modes in enumerate(self.modes):
            part = next((mode for mode in modes if mode not in _REPLAYED), None)
            if part is not None:
                raise ValueError(f"mode {part.value!r} of sample {row} runs a part of the network, and is not replayed")
            if not all(mode.evaluates for mode in modes[:2]):
                raise ValueError(f"sample {row} skips one of the first two steps, with nothing to estimate it from")

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
        errors = [
            (self.nodes.at([row], self.log_snr[step], _ORDER + 1)[0] - x0[row]).square().mean()
            for row in evaluated
            if self.nodes.count(row)
        ]
        if errors:
            torch.stack(errors).tolist()  # the one transfer from the device that a decision takes
        for row in evaluated:
            self.nodes.push(row, self.log_snr[step], x0[row])
        return self.replay.corrected(state, evaluated, self._interpolated)

    def _interpolated(self, row: int, step: int) -> Tensor:
        return self.nodes.at([row], self.log_snr[step], _ORDER + 2)[0]


def replayed(path: Path, steps: int) -> dict[str, Forced]:
    """Of the recordings in a file (see `read_modes`) those that can be replayed in `steps` steps; ValueError where
    there are none."""
    found = {}
    for name, modes in read_modes(path).items():
        if {len(one) for one in modes} == {steps} and all(mode in _REPLAYED for one in modes for mode in one):
            found[name] = Forced(modes)
    if not found:
        raise ValueError(f"{path} holds no modes of {steps} steps without evaluations of a part of the network")
    return found


def read_modes(path: Path) -> dict[str, Modes]:
    """Recorded modes by name: of a JSON file {"modes": {name: [[mode, ...] per sample]}}, as `bench speed` writes it.

    ValueError naming what is no such thing.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} of recorded modes")
    recorded = read_object(path).get("modes")
    if not isinstance(recorded, dict) or not recorded:
        raise ValueError(f"{path} holds no recorded modes: an object {{name: [[mode, ...] per sample]}} under 'modes'")
    known = {mode.value for mode in Mode}
    made: dict[str, Modes] = {}
    for name, samples in recorded.items():
        sound = isinstance(samples, list) and samples and all(isinstance(modes, list) for modes in samples)
        if not sound or any(mode not in known for modes in samples for mode in modes):
            raise ValueError(f"{path}: {name!r} is no list of {', '.join(sorted(known))} per sample")
        made[name] = [[Mode(mode) for mode in modes] for modes in samples]
    return made
