"""Makes the changes of a layer from the tensors that a file holds for it."""

from dataclasses import fields, is_dataclass

import torch
from torch import Tensor

from .changes import Change, Method, Scaled, Sum
from .forms import FORMS, Form, scales_inputs
from .parts import Parts
from .products import Full

_SHOWN = {"magnitude_in": "dora_scale", "magnitude": "lora_magnitude_vector"}


def make_changes(parts: Parts) -> list[Change]:
    """The changes of one layer.

    Raises:
        ValueError: If a part is missing, if parts belong to several forms of adapter, or if they do not fit the layer.
    """
    rest = dict(parts.tensors)
    changes = []
    for bias, scaled in (("diff_b", False), ("up_bias", True)):
        if bias in rest:
            tensor = rest.pop(bias)
            weight = parts.weight(len(parts.matrix("down"))) if scaled and "down" in rest else 1.0
            changes.append(_bias_change(parts, Sum(Full(tensor.reshape(-1, 1), weight))))
    if rest.keys() - {"alpha"}:
        form = _form(parts.layer, frozenset(rest))
        changes.append(Change(parts.layer, parts.place.weight, form.make(parts)))
        if form.name == "(IA)3" and parts.place.bias is not None and not scales_inputs(parts):
            changes.append(_bias_change(parts, Scaled(parts.tensors["ia3"].flatten(), False)))
    elif not changes:
        raise ValueError(f"{parts.layer} has alpha alone; a LoRA has both factors of a layer")
    return changes


def _bias_change(parts: Parts, method: Method) -> Change:
    if parts.place.bias is None:
        raise ValueError(f"{parts.layer} has no bias in this pipeline, and the file changes one")
    return Change(parts.layer, parts.place.bias, method)


def _form(layer: str, names: frozenset[str]) -> Form:
    forms = [form for form in FORMS if form.holds(names)]
    complete = [form for form in forms if form.needed <= names]
    if complete:
        return complete[0]
    shown = " and ".join(sorted(_SHOWN.get(name, name) for name in names - {"alpha"}))
    if forms:
        form = forms[0]
        missing = " and ".join(sorted(form.needed - names))
        raise ValueError(
            f"{layer} has {shown} alone; a {form.name} has both factors of a layer, and {missing} is missing"
        )
    raise ValueError(f"{layer} has {shown}, which are not the parts of one form of adapter")


def equal(one: object, other: object) -> bool:
    """Whether two changes, or parts of them, hold the same numbers."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one.double(), other.double())
    if type(one) is not type(other):
        return False
    if is_dataclass(one):
        return all(equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    return one == other
