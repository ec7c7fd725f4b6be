"""The forms of adapters: which parts each has, and the change that they make."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from .changes import Generalized, Method, Renormed, Residual, Scaled, Sum
from .parts import Parts
from .products import Full, Hadamard, Kronecker, LowRank, Product
from .rotations import Butterfly, Cayley, RotatedInputs, RotatedOutputs


@dataclass(frozen=True)
class Form:
    """A form of adapter.

    Attributes:
        name: Its name.
        needed: Parts that it must have.
        further: Parts that it may have.
        make: Makes the method.
        some: Parts of which it must have at least one; empty if there is no such condition.
    """

    name: str
    needed: frozenset[str]
    further: frozenset[str]
    make: Callable[[Parts], Method]
    some: frozenset[str] = frozenset()

    def holds(self, names: frozenset[str]) -> bool:
        """Whether the form allows all of the parts `names`, and one of `some` is among them."""
        return names <= self.needed | self.further and (not self.some or bool(self.some & names))


def _low_rank(parts: Parts) -> Method:
    up, down, middle = parts.matrix("up"), parts.matrix("down"), parts.tensors.get("mid")
    rank, expected = len(down), parts.settings.rank(parts.path)
    if expected not in (None, rank):
        raise ValueError(
            f"{parts.layer} has rank {rank}, but the settings say {expected}: they belong to another adapter"
        )
    product = LowRank(up, down, parts.weight(rank), middle)
    if (start := parts.settings.start) is not None:
        return Residual(Sum(product), start, rank, product.weight)
    return _renormed(parts, product)


def _embedding(parts: Parts) -> Method:
    down, up = parts.matrix("embedding_down"), parts.matrix("embedding_up")
    return Sum(LowRank(down.T, up.T, parts.weight(len(down))))


def _hadamard(parts: Parts) -> Method:
    w1_a, w1_b, w2_a, w2_b = (parts.matrix(f"hada_{name}") for name in ("w1_a", "w1_b", "w2_a", "w2_b"))
    t1, t2 = parts.tensors.get("hada_t1"), parts.tensors.get("hada_t2")
    if (t1 is None) != (t2 is None):
        raise ValueError(f"{parts.layer} has one of hada_t1 and hada_t2; a LoHa has both or neither")
    return _renormed(parts, Hadamard(w1_a, w1_b, w2_a, w2_b, parts.weight(len(w1_b)), t1, t2))


def _kronecker(parts: Parts) -> Method:
    found = {name: parts.maybe(f"lokr_{name}") for name in ("w1", "w2", "w1_a", "w1_b", "w2_a", "w2_b")}
    for side in ("w1", "w2"):
        pair = [found[f"{side}_a"] is not None, found[f"{side}_b"] is not None]
        if pair[0] != pair[1] or pair[0] == (found[side] is not None):
            raise ValueError(f"{parts.layer}: a LoKr has lokr_{side}, or lokr_{side}_a and lokr_{side}_b")
    ranks = [len(factor) for name in ("w2_b", "w1_b") if (factor := found[name]) is not None]
    if ranks:
        weight = parts.weight(ranks[0])
    elif parts.settings.known:  # PEFT scales full factors as well, LyCORIS does not
        weight = parts.weight(parts.settings.rank(parts.path) or 1)
    else:
        weight = 1.0
    return _renormed(parts, Kronecker(weight=weight, t2=parts.tensors.get("lokr_t2"), **found))


def _renormed(parts: Parts, product: Product) -> Method:
    if "magnitude" in parts.tensors:
        return Renormed(Sum(product), parts.tensors["magnitude"].flatten())
    if "magnitude_in" in parts.tensors:
        magnitude = parts.tensors["magnitude_in"]
        return Renormed(Sum(product), magnitude.flatten(), magnitude.dim() > 1 and len(magnitude) == 1)
    if parts.settings.fields.get("use_dora"):
        raise ValueError(f"{parts.layer} has no lora_magnitude_vector, but the settings say use_dora=true")
    return Sum(product)


def _full(parts: Parts) -> Method:
    tensor = parts.tensors["diff"]
    return Sum(Full(tensor.flatten(1) if tensor.dim() > 1 else tensor.reshape(-1, 1)))


def scales_inputs(parts: Parts) -> bool:
    """Whether a vector of PEFT's (IA)3 scales the inputs of a layer, as in feed-forward layers."""
    factor = parts.tensors["ia3"]
    if factor.dim() > 2:
        raise ValueError(f"{parts.layer}: (IA)3 of PEFT is supported for linear layers alone")
    return factor.dim() == 2 and len(factor) == 1 and factor.shape[1] > 1


def _scaled(parts: Parts) -> Method:
    return Scaled(parts.tensors["ia3"].flatten(), scales_inputs(parts))


def _lycoris_scaled(parts: Parts) -> Method:
    return Scaled(1 + parts.tensors["lycoris_ia3"].float().flatten(), bool(parts.number("on_input")))


def _rotated_outputs(parts: Parts) -> Method:
    constraint = parts.number("alpha")
    if not parts.layer.startswith("oft_unet_") and not constraint:  # in LyCORIS 0 stands for no constraint
        constraint = None
    return RotatedOutputs(parts.tensors["oft_blocks"], constraint, parts.tensors.get("rescale"))


def _rotated_inputs(parts: Parts) -> Method:
    own = parts.settings
    if own.type != "OFT":
        raise ValueError(f"{parts.layer}: oft_R needs PEFT's adapter_config.json beside the file, with peft_type 'OFT'")
    terms = own.whole("num_cayley_neumann_terms", 5) if own.fields.get("use_cayley_neumann", True) else None
    limit = own.fields.get("eps", 6e-5) if own.fields.get("coft") else None
    if limit is not None and not (type(limit) in (int, float) and math.isfinite(limit)):
        raise ValueError(f"{own.source}: eps={limit!r} in its settings is not a finite number")
    return RotatedInputs(parts.tensors["oft_R"], Cayley(terms, bool(own.fields.get("block_share")), limit))


def _butterfly(parts: Parts) -> Method:
    return Butterfly(parts.tensors["boft_R"], parts.tensors["boft_s"])


def _generalized(parts: Parts) -> Method:
    a1, a2, b1, b2 = (parts.matrix(f"glora_{name}") for name in ("a1", "a2", "b1", "b2"))
    return Generalized(a1, a2, LowRank(b1, b2, parts.weight(len(b2)), parts.tensors.get("glora_bm")))


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_KRONECKER = "lokr_w1 lokr_w1_a lokr_w1_b lokr_w2 lokr_w2_a lokr_w2_b lokr_t2"
_NORMS = "alpha scalar magnitude magnitude_in"
FORMS = (
    Form("LoRA", _set("up down"), _set(f"mid {_NORMS}"), _low_rank),
    Form("LoRA of an embedding", _set("embedding_up embedding_down"), _set("alpha"), _embedding),
    Form("LoHa", _set("hada_w1_a hada_w1_b hada_w2_a hada_w2_b"), _set(f"hada_t1 hada_t2 {_NORMS}"), _hadamard),
    Form("LoKr", _set(""), _set(f"{_KRONECKER} {_NORMS}"), _kronecker, _set(_KRONECKER)),
    Form("full difference", _set("diff"), _set("alpha"), _full),
    Form("(IA)3", _set("ia3"), _set(""), _scaled),
    Form("(IA)3 of LyCORIS", _set("lycoris_ia3 on_input"), _set(""), _lycoris_scaled),
    Form("OFT of LyCORIS", _set("oft_blocks"), _set("alpha rescale"), _rotated_outputs),
    Form("OFT of PEFT", _set("oft_R"), _set(""), _rotated_inputs),
    Form("BOFT of PEFT", _set("boft_R boft_s"), _set(""), _butterfly),
    Form("GLoRA", _set("glora_a1 glora_a2 glora_b1 glora_b2"), _set("glora_bm alpha scalar"), _generalized),
)
"""All forms of adapter."""
