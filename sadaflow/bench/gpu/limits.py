"""Compares an evaluation with the limits of the card: operations over its peak rate, bytes over its bandwidth."""

import gc
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from sadaflow.models import call_through

from .cards import Card, card_for
from .clock import median_milliseconds
from .networks import FULL, build
from .profiled import profiled
from .records import Record, Setup, attempted, goal, row

_PRODUCTS = {torch.ops.aten.addmm, torch.ops.aten.mm, torch.ops.aten.bmm, torch.ops.aten.baddbmm}
_NOMINAL = Card("nominal", 100e9, 10e9)  # a CPU core, for the rehearsal


class Work(TorchDispatchMode):
    """Context manager that counts operations, bytes that operators read and write, and the least seconds on `card`.

    The seconds are a sum over operators, so no operator overlaps with another.
    """

    def __init__(self, card: Card) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.card = card
        self.flops = self.product_flops = self.bytes = 0
        self.seconds = 0.0
        self.attention: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        packet = func.overloadpacket
        if func.is_view or "empty" in packet.__name__:
            return made
        flops = _flops(packet, args, kwargs, made)
        moved = sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves((args, kwargs, made)) if _is_dense(leaf))
        self.flops += flops
        self.product_flops += flops if packet in _PRODUCTS else 0
        self.bytes += moved
        self.seconds += max(flops / self.card.flops, moved / self.card.bytes)
        if "scaled_dot_product" in packet.__name__:
            self.attention[packet.__name__] += 1
        return made


def run(setup: Setup) -> Iterator[Record]:
    """Measures an evaluation of each network, as in the sampling loop for one picture."""
    for name in reversed(FULL):  # Flux first: there is a goal for its matrix products
        yield from attempted(name, setup, partial(_evaluation, name, setup))
        gc.collect()
        if setup.cuda:
            torch.cuda.empty_cache()


@torch.no_grad()
def _evaluation(name: str, setup: Setup) -> Iterator[Record]:
    found = card_for(torch.cuda.get_device_name(setup.device)) if setup.cuda else None
    card = found or _NOMINAL
    network = build(name, setup.device, small=setup.small)
    denoise, x = network.denoiser(network.solver(10), 1), network.noise(1)
    act = partial(denoise.evaluate, x, 1, range(1), call_through)
    milliseconds = median_milliseconds(act, setup.device, 3 if setup.small else 10)
    with Work(card) as work:
        act()
    profile = profiled(act, setup.device)
    rate = work.flops / milliseconds * 1e3
    products = profile.milliseconds.get("matrix products", 0.0)
    product_rate = work.product_flops / products * 1e3 if products else 0.0
    yield row(
        f"one evaluation, batch 1 ({card.name}: {card.flops / 1e12:g} TFLOP/s, {card.bytes / 1e12:g} TB/s)",
        network=name,
        ms=milliseconds,
        TFLOP=work.flops / 1e12,
        **{
            "TFLOP/s": rate / 1e12,
            "share of peak": rate / card.flops,
            "weights, ms to read": 1e3 * network.bytes / card.bytes,
            "GB read and written": work.bytes / 1e9,
            "limit of eager operators, ms": 1e3 * work.seconds,
            "time over that limit": milliseconds / (1e3 * work.seconds),
            "products, TFLOP/s": product_rate / 1e12,
        },
    )
    shares = {f"{kind}, ms": spent for kind, spent in sorted(profile.milliseconds.items())}
    backends = ", ".join(f"{count} {backend}" for backend, count in sorted(work.attention.items())) or "decomposed"
    yield row("where its time goes", network=name, launches=profile.launches, **shares, attention=backends)
    if name == "flux" and found is not None:
        text = f"Flux's matrix products, share of the {card.name}'s bf16 peak"
        yield goal(text, product_rate / card.flops, 0.6, at_least=True)


def _is_dense(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and leaf.layout == torch.strided


def _flops(packet: Any, args: Any, kwargs: Any, made: Any) -> int:
    """Returns the operations of an operator; a multiplication with its addition counts 2."""
    if packet is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:
        return int(sdpa_flop_count(*(tensor.shape for tensor in args[:3])))
    count = flop_registry.get(packet)
    return 0 if count is None else int(count(*args, **kwargs, out_val=made))
