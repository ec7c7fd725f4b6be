"""Measures both sides on one task: each against its own plain run."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ...accelerators import Accelerator
from ...metrics.fidelity import psnr
from ...sampling.nfe import operation_count
from ...sampling.operation_count import OperationCount
from ..run.uncounted import Uncounted
from ..speed.rounds import interleaved, ratio
from ..speed.sides import OURS, THEIRS, Ours, Ran, Theirs
from ..speed.task import Task
from .methods import Methods, Peer


@dataclass(frozen=True)
class Row:
    """The measurements of one method.

    Attributes:
        side: "sadaflow" or "diffusers".
        name: Name of the method.
        package: Package and version of a peer.
        note: Why nothing was measured; None if it was.
        psnr: Of each sample's decoded picture, in dB, against the plain run of the same side.
        cost: Multiplications of the network, divided by those of the plain run.
        seconds: Seconds of sampling without decoder, divided by those of the plain run: median over the rounds.
    """

    side: str
    name: str
    package: str | None = None
    note: str | None = None
    psnr: tuple[float, ...] = ()
    cost: float | None = None
    seconds: float | None = None


class PeerBench:
    """Runs the methods on one task.

    Diffusers' pipeline is loaded anew for every run of a method, because some packages leave state behind when they
    are switched off. Loading is not timed.

    Args:
        folder: The checkpoint.
        task: What is sampled.
        dtype: Type of the weights.
        device: Where the networks run.
    """

    def __init__(self, folder: Path, task: Task, dtype: torch.dtype, device: torch.device) -> None:
        self.folder, self.task, self.dtype, self.device = folder, task, dtype, device
        self.ours = Ours(folder, dtype, device)

    def measure(self, methods: Methods, rounds: int, advance: Callable[[int], None]) -> list[Row]:
        """Measures fidelity and cost of every method, then seconds in interleaved rounds.

        Args:
            methods: What to measure.
            rounds: Number of timed rounds.
            advance: Called with 1 after every run.

        Returns:
            A row for every method, those of Diffusers' side first. A method that refuses the task, or whose package is
            not installed, has a note.
        """
        plain, all_of_it = self._counted(None)
        rows = [self._peer_row(peer, plain, all_of_it, advance) for peer in methods.theirs]
        own = self._ours(None)
        rows += [self._own_row(name, accelerator, own, advance) for name, accelerator in methods.ours.items()]
        settings: dict[str, Callable[[], Mapping[str, float]]] = {
            THEIRS: lambda: _seconds(self._theirs(None)),
            OURS: lambda: _seconds(self._ours(None)),
        }
        peers = {peer.name: peer for peer in methods.theirs}
        for row in rows:
            if row.note is None:
                settings[f"{row.side} {row.name}"] = (
                    self._timed_peer(peers[row.name]) if row.side == THEIRS else self._timed(methods.ours[row.name])
                )
        made = interleaved(settings, rounds, advance)
        return [
            row if row.note else replace(row, seconds=ratio(made, f"{row.side} {row.name}", row.side, "seconds"))
            for row in rows
        ]

    def difference(self) -> float:
        """The largest difference of both sides' plain latents."""
        ours, theirs = _latents(self._ours(None)), _latents(self._theirs(None))
        return float((ours - theirs.to(ours)).abs().max())

    def _peer_row(self, peer: Peer, plain: Ran, all_of_it: int, advance: Callable[[int], None]) -> Row:
        row = Row(THEIRS, peer.name, f"{peer.package} {peer.version or 'not installed'}")
        if peer.version is None:
            return replace(row, note=f"needs {peer.package}: pip install 'sadaflow[peers]'")
        try:
            ran, operations = self._counted(peer)
        except Exception as error:  # whatever another package raises, the other rows are measured
            return replace(row, note=f"{type(error).__name__}: {error}".partition("\n")[0])
        advance(1)
        return replace(row, psnr=self._psnr(ran, plain), cost=operations / all_of_it)

    def _own_row(self, name: str, accelerator: Accelerator, plain: Ran, advance: Callable[[int], None]) -> Row:
        try:
            self.ours.check_fit(name, accelerator, self.task)
        except ValueError as error:
            return Row(OURS, name, note=str(error))
        ran = self._ours(accelerator)
        advance(1)
        assert ran.nfe is not None and plain.nfe is not None
        return Row(OURS, name, psnr=self._psnr(ran, plain), cost=ran.nfe / plain.nfe)

    def _psnr(self, ran: Ran, plain: Ran) -> tuple[float, ...]:
        pictures, reference = (self.ours.pipe.family.decode(_latents(run)) for run in (ran, plain))
        return tuple(psnr(pictures, reference).tolist())

    def _counted(self, peer: Peer | None) -> tuple[Ran, int]:
        """A run in Diffusers, and the operations of its network."""
        side = self._loaded(peer)
        with _counting(side.network) as count:
            ran = side.run(self.task, latent=True)
        return ran, count.total

    def _theirs(self, peer: Peer | None) -> Ran:
        return self._loaded(peer).run(self.task, latent=True)

    def _loaded(self, peer: Peer | None) -> Theirs:
        side = Theirs(self.folder, self.dtype, self.device, self.task.solver)
        if peer is not None:
            peer.enable(side.pipe)
        return side

    def _ours(self, accelerator: Accelerator | None) -> Ran:
        return self.ours.run(self.task, latent=True, accelerator=accelerator)

    def _timed_peer(self, peer: Peer) -> Callable[[], Mapping[str, float]]:
        return lambda: _seconds(self._theirs(peer))

    def _timed(self, accelerator: Accelerator) -> Callable[[], Mapping[str, float]]:
        return lambda: _seconds(self._ours(Uncounted(accelerator)))


@contextmanager
def _counting(network: nn.Module) -> Iterator[OperationCount]:
    """Counts the operations of a network's calls, and of nothing else."""
    count = operation_count()

    def enter(module: nn.Module, inputs: object) -> None:
        count.__enter__()  # type: ignore[no-untyped-call]  # of torch

    def leave(module: nn.Module, inputs: object, outputs: object) -> None:
        count.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    hooks = network.register_forward_pre_hook(enter), network.register_forward_hook(leave)
    try:
        yield count
    finally:
        for hook in hooks:
            hook.remove()


def _seconds(ran: Ran) -> Mapping[str, float]:
    return {"seconds": ran.seconds}


def _latents(ran: Ran) -> Tensor:
    assert ran.latents is not None
    return ran.latents
