"""Wrong seams, hidden states and accounts, and what a device would wait for."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sadaflow import Mode
from sadaflow.models import Seam, Site, call_through

from .sound import BlockCache, EverySecond, OneBranch, Threshold
from .specimen import wrong


@wrong("accounting", "calls every block twice in what it counts as one evaluation")
class WorksTwice(EverySecond):
    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        def seam(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            if site.kind == "block":
                fn(hidden, *args)
            return fn(hidden, *args)

        return seam


class KeepsNetwork(EverySecond):
    """Keeps the outermost part of the network."""

    network: Callable[[], Tensor] | None = None

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        def seam(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            if site.name in ("shell.0", "trunk"):
                self.network = lambda: fn(hidden, *args)
            return fn(hidden, *args)

        return seam


@wrong("accounting", "calls the network from `observe`, and uses the result")
class CallsFromObserve(KeepsNetwork):
    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        super().observe(step, x, x0, y, x_next)
        if self.network is not None:
            self.drift = self.network().mean()


@wrong("accounting", "calls the network from `plan`, to look ahead")
class CallsFromPlan(KeepsNetwork):
    def plan(self, step: int) -> Sequence[Mode]:
        if self.network is not None and step % 4 == 0:
            self.network()
        return super().plan(step)


@wrong("accounting", "calls the network from `estimate`, so that nothing is saved")
class CallsFromEstimate(KeepsNetwork):
    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        if self.network is not None:
            self.network()
        return super().estimate(step, x, rows)


@wrong("accounting", "calls evaluations cached and computes all of them")
class CountsAsCached(BlockCache):
    def caches(self, site: Site) -> bool:
        return False


@wrong("accounting", "renews the cache at every fourth cached evaluation, and calls it cached all the same")
class RenewsUncounted(BlockCache):
    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        return super().seam(step, Mode.FULL if step % 8 == 7 else mode, rows)


@wrong("accounting", "says FULL of evaluations that took from the cache")
class CachedAsFull(BlockCache):
    def carried_out(self, step: int, rows: Sequence[int]) -> Sequence[Mode]:
        return [Mode.FULL] * len(rows)


@wrong("full is full", "mixes stale hidden states into full evaluations")
class Blends(EverySecond):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.hidden: dict[str, Tensor] = {}

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        def seam(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            if site.kind != "block":
                return fn(hidden, *args)
            stale, self.hidden[site.name] = self.hidden.get(site.name, hidden), hidden
            return fn(0.99 * hidden + 0.01 * stale, *args)

        return seam if step else call_through


@wrong("full is full", "rounds the hidden states of every evaluation to bfloat16")
class RoundsHidden(EverySecond):
    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        def seam(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            return fn(hidden.bfloat16().to(hidden) if site.kind == "block" else hidden, *args)

        return seam


@wrong("accuracy", "adds the whole cached output instead of the change that the block made")
class AddsOutput(BlockCache):
    def stale(self, site: Site, hidden: Tensor, rows: Sequence[int]) -> Tensor:
        return hidden + self.kept[site.name] + (hidden if site.kind == "block" else self.kept[site.name])


@wrong("accuracy", "exchanges the branches of guidance in the cache")
class SwapsBranches(BlockCache):
    def stale(self, site: Site, hidden: Tensor, rows: Sequence[int]) -> Tensor:
        kept = self.kept[site.name].roll(len(rows), 0)
        return hidden + 6 * kept if site.kind == "block" else -3 * kept


@wrong("one sample changed", "takes another sample's hidden states from the cache")
class OtherRows(BlockCache):
    def stale(self, site: Site, hidden: Tensor, rows: Sequence[int]) -> Tensor:
        kept = self.kept[site.name].unflatten(0, (2, -1)).roll(1, 1).flatten(0, 1)
        return hidden + kept if site.kind == "block" else kept


@wrong("batch invariance", "caches the mean of the batch's hidden states")
class MeanHidden(BlockCache):
    def stale(self, site: Site, hidden: Tensor, rows: Sequence[int]) -> Tensor:
        kept = self.kept[site.name].mean(0, keepdim=True).expand_as(self.kept[site.name])
        return hidden + kept if site.kind == "block" else kept


@wrong("state", "keeps hidden states in the settings, by site")
class HiddenInSettings(BlockCache):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        if not self.accelerator.kept:
            self.accelerator.kept.append({})
        self.kept = self.accelerator.kept[0]

    def stale(self, site: Site, hidden: Tensor, rows: Sequence[int]) -> Tensor:
        fits = self.kept[site.name].shape[0] == hidden.shape[0]
        return super().stale(site, hidden, rows) if fits else hidden


@wrong("accuracy", "adds the effect of guidance with the wrong sign")
class WrongSign(OneBranch):
    def guidance(self, step: int, rows: Sequence[int]) -> Tensor:
        return -20 * self.difference


@wrong("dtype", "keeps the effect of guidance in float64")
class WideGuidance(OneBranch):
    def guidance(self, step: int, rows: Sequence[int]) -> Tensor:
        return self.difference.double()


@wrong("memory", "keeps the hidden states of every step")
class HoardsHidden(BlockCache):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.all: list[Tensor] = []

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        self.all += [tensor for tensor in self.kept.values() if not any(tensor is old for old in self.all)]


@wrong("host reads", "calls .item() for each sample at each step")
class ItemPerSample(Threshold):
    def change(self, x0: Tensor) -> Tensor:
        assert self.x0 is not None
        changes = [float((x0 - self.x0)[row].norm() / x0[row].norm()) for row in range(self.samples)]
        return torch.tensor(changes, device="cpu")


@wrong("host reads", "keeps the history on the host")
class OnHost(EverySecond):
    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        self.state = x.cpu(), y.cpu()
        super().observe(step, x, x0, y, x_next)


@wrong("launches", "loops over the samples of the batch at each step")
class LoopsOverSamples(EverySecond):
    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        super().observe(step, x, torch.stack([x0[row] * 1.0 for row in range(self.samples)]), y, x_next)


@wrong("host reads", "makes new tensors on the host, which a GPU cannot mix with its own")
class HostTensor(EverySecond):
    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        return super().estimate(step, x, rows) * torch.ones(x.shape[-1], dtype=x.dtype)
