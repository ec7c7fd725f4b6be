"""Settings that no run could use are refused when they are made, by class, field and value."""

import math
from typing import Any

import pytest

from sadaflow.accelerators import (
    SADA,
    AdaptiveDiffusion,
    Auto,
    DBCache,
    DeepCache,
    DiCache,
    EasyCache,
    FirstBlock,
    FoCa,
    Fora,
    FreqCa,
    Guidance,
    HiCache,
    MagCache,
    MeanCache,
    ReleasedSADA,
    SeaCache,
    SpeCa,
    Spectrum,
    TaylorSeer,
    TeaCache,
    Uniform,
    Zeus,
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


@pytest.mark.parametrize(
    ("made", "published"),
    [
        (AdaptiveDiffusion(), {"threshold": 0.01, "max_skips": 4}),  # arXiv 2410.09873, the code for SDXL
        (DeepCache(), {"interval": 3, "branch": 0, "uniform": True, "power": 1.4, "centre": 15.0}),  # arXiv 2312.00858
        (EasyCache(), {"threshold": 0.05, "start": 0.1, "end": 1.0, "subsample": 1}),  # arXiv 2507.02860, Wan 2.1
        (FirstBlock(), {"threshold": 0.08, "front": 1, "back": 0, "warmup": 0, "max_skips": None}),  # ParaAttention
        (MagCache(), {"threshold": 0.24, "max_skips": 5, "retention": 0.1, "never": (11,)}),  # arXiv 2506.09045, Flux.1
        (SeaCache(), {"threshold": 0.25, "first": 1, "last": 1, "max_skips": 2, "exponent": 2.0}),  # arXiv 2602.18993
        (TaylorSeer(), {"interval": 6, "order": 1, "first": 3}),  # arXiv 2503.06923
        (
            TeaCache(),  # arXiv 2411.19108, Flux.1 at 2x
            {"threshold": 0.6, "coefficients": (498.651651, -283.781631, 55.8554382, -3.82021401, 0.264230861)},
        ),
        (DBCache(), {"threshold": 0.08, "back": 0, "warmup": 8, "warmup_interval": 1, "max_cached": None}),  # cache-dit
        (DiCache(), {"threshold": 0.4, "probe": 1, "retention": 0.2, "most": 1.5, "error": "probe"}),  # 2508.17356
        (FoCa(), {"interval": 5, "first": 3}),
        (Fora(), {"interval": 3}),
        (FreqCa(), {"interval": 6, "order": 2, "first": 3, "scale": 0.71, "cut": 0.1}),  # arXiv 2510.08669, Flux.1
        (HiCache(), {"interval": 6, "order": 1, "first": 3, "scale": 0.5}),  # arXiv 2508.16984
        (MeanCache(), {"evaluated": "meancache-qwen-17", "released": False}),
        (SpeCa(), {"threshold": 7.0, "decay": 0.3, "floor": 0.1, "unchecked": 1, "max_drafts": 8}),  # 2509.11628
        (Spectrum(), {"degree": 4, "ridge": 0.1, "blend": 0.5, "window": 2.0, "flex": 0.75, "warmup": 5}),  # 2603.01623
        (Zeus(), {"denominator": 3, "remainders": (0, 1), "start": 0.2, "end": 0.9, "interval": 4, "terms": 4}),
        (SADA(), {"start": 0.2, "multistep_start": 0.48, "end": 0.94, "max_skips": 4, "interval": 4, "terms": 4}),
        (ReleasedSADA(), {"start": 0.2, "multistep_start": 0.48, "end": 0.94, "max_skips": 4, "interval": 4}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_defaults_are_the_published_ones(made: Any, published: dict[str, Any]) -> None:
    assert {field: getattr(made, field) for field in published} == published


# Of every setting: the least value that is taken, and the next below it, which is refused.
WHOLE = {
    Auto: {"nodes": 1, "max_skips": 1, "warm_up": 2, "max_nfe": 1},
    SADA: {"max_skips": 1, "interval": 2, "terms": 2, "token_depth": 0, "token_cell": 1, "token_limit": 1,
           "token_memory": 0},
    ReleasedSADA: {"max_skips": 1, "interval": 2, "terms": 2},
    Guidance: {"every": 1, "order": 0},
    AdaptiveDiffusion: {"max_skips": 1},
    SeaCache: {"first": 1, "last": 0, "max_skips": 0, "order": 0},
    EasyCache: {"subsample": 1},
    Uniform: {"every": 1, "order": 0},
    FirstBlock: {"front": 1, "back": 0, "warmup": 0, "max_skips": 0, "max_cached": 0},
    DeepCache: {"interval": 1, "branch": 0},
    MagCache: {"max_skips": 0},
    TaylorSeer: {"interval": 1, "order": 0, "first": 1},
    DBCache: {"front": 1, "back": 0, "warmup": 0, "warmup_interval": 1, "max_cached": 0, "max_skips": 0},
    DiCache: {"probe": 1, "last": 0},
    FoCa: {"interval": 1, "first": 2},
    Fora: {"interval": 1},
    FreqCa: {"interval": 1, "order": 0, "first": 1},
    HiCache: {"interval": 1, "order": 0, "first": 1},
    SpeCa: {"unchecked": 0, "max_drafts": 1, "order": 0, "first": 1},
    Spectrum: {"degree": 0, "warmup": 2, "last": 0},
    Zeus: {"interval": 1, "terms": 1, "max_skips": 0},
}  # fmt: skip
NUMBERS: list[tuple[Any, str, float, float]] = [
    # class, field, a value at the end of what is taken, one that is refused
    (Auto, "tolerance", 0.0, -1e-12),
    (Auto, "speedup", 1.0, 1 - 1e-12),
    (Auto, "budget", 1e-12, 0.0),
    (Auto, "budget", math.inf, math.nan),
    (Auto, "inertia", 0.0, -1e-12),
    (Auto, "inertia", 1 - 1e-12, 1.0),
    (AdaptiveDiffusion, "threshold", 0.0, -1e-12),
    (SeaCache, "threshold", 0.0, -1e-12),
    (SeaCache, "exponent", 1e-12, 0.0),
    (EasyCache, "threshold", 0.0, -1e-12),
    (FirstBlock, "threshold", 0.0, -1e-12),
    (FirstBlock, "threshold", math.inf, math.nan),
    (MagCache, "threshold", math.inf, math.nan),
    (TeaCache, "threshold", math.inf, math.nan),
    (DeepCache, "power", 1 + 1e-12, 1.0),
    (DeepCache, "centre", 1e-12, 0.0),
    (MagCache, "threshold", 0.0, -1e-12),
    (MagCache, "retention", 0.0, -1e-12),
    (MagCache, "retention", 1.0, 1 + 1e-12),
    (TeaCache, "threshold", 0.0, -1e-12),
    (SADA, "end", 1.0, 1 + 1e-12),
    (SADA, "start", 0.0, -1e-12),
    (SADA, "start", 0.48, 0.48 + 1e-12),
    (ReleasedSADA, "multistep_start", 0.94, 0.94 + 1e-12),
    (DBCache, "threshold", 0.0, -1e-12),
    (DBCache, "threshold", math.inf, math.nan),
    (DBCache, "max_accumulated", 0.0, -1e-12),
    (DiCache, "threshold", 0.0, -1e-12),
    (DiCache, "most", 1.0, 1 - 1e-12),
    (DiCache, "retention", 1.0, 1 + 1e-12),
    (FreqCa, "scale", 1e-12, 0.0),
    (FreqCa, "cut", 1.0, 1 + 1e-12),
    (FreqCa, "cut", 0.0, -1e-12),
    (HiCache, "scale", 1e-12, 0.0),
    (SpeCa, "threshold", 0.0, -1e-12),
    (SpeCa, "floor", 0.0, -1e-12),
    (SpeCa, "decay", 1.0, 1 + 1e-12),
    (Spectrum, "ridge", 1e-12, 0.0),
    (Spectrum, "window", 1.0, 1 - 1e-12),
    (Spectrum, "flex", 0.0, -1e-12),
    (Spectrum, "blend", 1.0, 1 + 1e-12),
    (Zeus, "end", 1.0, 1 + 1e-12),
    (Zeus, "start", 0.0, -1e-12),
]


@pytest.mark.parametrize(
    ("kind", "field", "least"), [(kind, *item) for kind, fields in WHOLE.items() for item in fields.items()]
)
def test_the_least_whole_number_is_taken_and_the_next_below_refused(kind: Any, field: str, least: int) -> None:
    assert getattr(kind(**{field: least}), field) == least
    for wrong in (least - 1, least + 0.5):
        with pytest.raises(ValueError, match=rf"{kind.__name__}\.{field} must be"):
            kind(**{field: wrong})


@pytest.mark.parametrize(("kind", "field", "last", "beyond"), NUMBERS)
def test_the_last_number_is_taken_and_beyond_it_refused(kind: Any, field: str, last: float, beyond: float) -> None:
    assert getattr(kind(**{field: last}), field) == last
    with pytest.raises(ValueError, match=field):
        kind(**{field: beyond})
