"""Settings that no run could use are refused when they are made, by class, field and value."""

import math
from typing import Any

import pytest

from sadaflow.accelerators import (
    SADA,
    Auto,
    DeepCache,
    EasyCache,
    FirstBlock,
    Guidance,
    MagCache,
    ReleasedSADA,
    SeaCache,
    TaylorSeer,
    TeaCache,
    Uniform,
)


@pytest.mark.parametrize(
    ("kind", "field", "value", "needed"),
    [
        (Auto, "tolerance", -0.1, "at least 0"),
        (Auto, "tolerance", "small", "a number"),
        (Auto, "budget", 0, "above 0"),
        (Auto, "inertia", 1.0, "below 1"),
        (Auto, "max_skips", 2.5, "a whole number"),
        (Auto, "memories", 0.3, "one or more finite numbers above 0"),
        (DeepCache, "interval", 0, "at least 1"),
        (DeepCache, "power", math.inf, "finite"),
        (EasyCache, "threshold", math.inf, "finite"),
        (EasyCache, "subsample", None, "a whole number"),
        (FirstBlock, "max_cached", -1, "at least 0"),
        (FirstBlock, "threshold", math.nan, "a number"),
        (MagCache, "ratios", (1.0, math.nan), "one or more finite numbers"),
        (ReleasedSADA, "terms", 1, "at least 2"),
        (SADA, "token_memory", -1, "at least 0"),
        (SADA, "weights", (1.0, "x", 0.0), "one or more finite numbers"),
        (SADA, "token_keys", "stale", "cached or dropped"),
        (SeaCache, "order", 2, "0 or 1"),
        (TaylorSeer, "order", -1, "at least 0"),
        (TeaCache, "coefficients", (), "one or more finite numbers"),
        (Uniform, "every", 1.5, "a whole number"),
    ],
)
def test_refusals_name_class_field_need_and_value(kind: Any, field: str, value: Any, needed: str) -> None:
    with pytest.raises(ValueError) as refusal:
        kind(**{field: value})
    assert str(refusal.value) == f"{kind.__name__}.{field} must be {needed}, got {value!r}"


@pytest.mark.parametrize("fields", [{"start": 0.9, "end": 0.1}, {"start": -0.1}, {"end": math.nan}, {"end": "all"}])
@pytest.mark.parametrize("kind", [EasyCache, Guidance])
def test_fractions_of_the_steps_are_in_order(kind: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__} needs 0 <= start <= end <= 1 \(fractions of the steps\)"):
        kind(**fields)


def test_the_bounds_themselves_are_allowed() -> None:
    assert FirstBlock(threshold=math.inf, max_skips=None, max_cached=0).max_cached == 0
    assert Auto(tolerance=0, speedup=1, inertia=0.0).inertia == 0
    assert EasyCache(start=0, end=1, threshold=0).start == 0
