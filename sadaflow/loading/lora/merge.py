"""Merges adapters into the weights of a pipeline.

The tensors from before the first adapter are kept, and put back when the last one is removed: unloading is exact, in
any order. This takes the memory of the changed layers once more, and that of the factors.
"""

from collections.abc import Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from ..copied_weights import is_finite
from ..json_file import naming
from ..layouts.adapted_model import made_for
from .changes import Change, Sum
from .read import Lora

Place = tuple[str, str]
"""Names of a network and of a parameter in it."""


class LoraStack:
    """The adapters that are merged into a pipeline.

    Args:
        components: The networks by name: unet, transformer, text_encoder, text_encoder_2.
    """

    def __init__(self, components: Mapping[str, nn.Module]) -> None:
        networks = components.items()
        self._weights = {
            (component, name): weight for component, network in networks for name, weight in network.named_parameters()
        }
        self._originals: dict[Place, Tensor] = {}
        self._scales: dict[Lora, float] = {}

    def __bool__(self) -> bool:
        """Whether an adapter changes the weights."""
        return any(self._scales.values())

    @property
    def scales(self) -> Mapping[Lora, float]:
        """The adapters in the order in which they were added, with their scales; 0 is an adapter that is off."""
        return self._scales

    def named(self, lora: Lora | str) -> Lora:
        """The merged adapter of that name; raises ValueError if there is none, or if there are several."""
        found = [own for own in self._scales if lora in (own, own.name)]
        if len(found) == 1:
            return found[0]
        name = lora.name if isinstance(lora, Lora) else lora
        if found:
            raise ValueError(f"{len(found)} adapters have the name {name!r}: pass what load_lora returned")
        known = ", ".join(own.name for own in self._scales) or "none"
        raise ValueError(
            f"the LoRA {name!r} is not loaded in this pipeline, or was unloaded before; loaded adapters: {known}"
        )

    def add(self, lora: Lora) -> None:
        """Merge an adapter; raises ValueError, before any weight is changed, if a factor does not fit its layer."""
        for change in lora.factors:
            self._check(change, lora)
        self._scales[lora] = lora.scale
        try:
            with naming(lora.source):
                self._refresh(lora.factors)
        except Exception:
            self.remove(lora)
            raise

    def remove(self, lora: Lora | str) -> Lora:
        """Undo `add`; raises ValueError if the adapter is not merged."""
        found = self.named(lora)
        del self._scales[found]
        self._refresh(found.factors)
        return found

    def rescale(self, scales: Mapping[Lora, float]) -> None:
        """Give merged adapters other scales; 0 turns one off."""
        before = dict(self._scales)
        changed = [change for lora, scale in scales.items() if before[lora] != scale for change in lora.factors]
        self._scales |= scales
        try:
            self._refresh(changed)
        except Exception:
            self._scales = before
            self._refresh(changed)
            raise

    def _check(self, change: Change, lora: Lora) -> None:
        target = change.target
        shapes = {name: self._weights[target.component, name].shape for name in target.weights}
        whole = target.join({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
        try:
            change.method.check(tuple(whole.shape))
        except (ValueError, IndexError) as error:  # a vector has no second dimension
            hint = "this LoRA was made for another model"
            if change.layer.endswith(("img_in", "x_embedder")):
                hint += "; a control LoRA of FLUX.1 Depth or Canny widens this layer: load that checkpoint itself"
            elif model := made_for((f"{one.layer}.lora_down.weight", _shape(one)) for one in lora.factors):
                hint += f"; it looks like an adapter for {model}"
            raise ValueError(f"{lora.source}: {change.layer}: {error}: {hint}") from error

    @torch.no_grad()
    def _refresh(self, changes: Iterable[Change]) -> None:
        """Recompute the weights that `changes` are made to from their originals and the merged adapters."""
        users: dict[Place, list[tuple[int, Change, float]]] = {}
        active = [(change, scale) for lora, scale in self._scales.items() if scale for change in lora.factors]
        for order, (change, scale) in enumerate(active):
            for place in _places(change):
                users.setdefault(place, []).append((order, change, scale))
        waiting = dict.fromkeys(place for change in changes for place in _places(change))
        while waiting:
            group = _connected(next(iter(waiting)), users)
            for place in group:
                waiting.pop(place, None)
            steps = {step[0]: step for place in group for step in users.get(place, ())}
            self._recompute(group, [steps[order][1:] for order in sorted(steps)])

    def _recompute(self, group: Iterable[Place], steps: list[tuple[Change, float]]) -> None:
        """Apply `steps` to the original tensors of `group`, which are fused in some of them."""
        if not steps:
            for place in group:
                if place in self._originals:
                    self._weights[place].data = self._originals.pop(place)
            return
        originals = {place: self._originals.get(place, self._weights[place].data) for place in group}
        state = {
            place[1]: tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for place, tensor in originals.items()
        }
        start = dict(state)
        for change, scale in steps:
            state |= _applied(change, scale, state, start)
        for place, original in originals.items():
            merged = torch.empty_like(original).copy_(state[place[1]])
            if not is_finite(merged):
                raise ValueError(f"{place[0]}.{place[1]} does not fit {original.dtype} with the adapter merged")
            self._originals[place] = original
            self._weights[place].data = merged


def _applied(
    change: Change, scale: float, state: Mapping[str, Tensor], originals: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The parameters of a change's target after it."""
    target, method = change.target, change.method
    whole = target.join(state)
    if isinstance(method, Sum) and len(target.weights) > 1:
        parts = target.split(method.difference(whole))
        return {name: state[name] + scale * parts[name] for name in target.weights}
    return target.split(method.apply(whole, partial(target.join, originals), scale))


def _shape(change: Change) -> tuple[int, ...]:
    """The shape of what a change adds; () if it is not a sum, or if its factors do not fit each other."""
    try:
        return change.method.product.shape() if isinstance(change.method, Sum) else ()
    except ValueError:
        return ()


def _places(change: Change) -> list[Place]:
    return [(change.target.component, name) for name in change.target.weights]


def _connected(place: Place, users: Mapping[Place, list[tuple[int, Change, float]]]) -> list[Place]:
    """All parameters that must be recomputed together with one, because changes fuse them."""
    found, waiting = {place: None}, [place]
    while waiting:
        for _, change, _ in users.get(waiting.pop(), ()):
            new = [other for other in _places(change) if other not in found]
            found |= dict.fromkeys(new)
            waiting += new
    return list(found)
