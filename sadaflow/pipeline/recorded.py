"""Measures the numbers of a loaded pipeline that TeaCache and MagCache need of a network."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch

from ..accelerators import MagCache, TeaCache, make_accelerator
from ..accelerators.caching.base import check_fit
from ..sampling.calibration import magcache_ratios, teacache_coefficients, teacache_pairs
from .inputs import latent_shape
from .progress import counting
from .tuning import PROMPTS, Tuning, tuning_samples

if TYPE_CHECKING:
    from .sampler import Sampler

__all__ = ["RECORDED", "record_accelerator"]


def record_accelerator(
    pipe: "Sampler",
    name: str,
    prompts: Sequence[str] = PROMPTS,
    *,
    samples: int = 16,
    batch: int = 8,
    progress: bool | None = None,
    **arguments: Any,
) -> TeaCache | MagCache:
    """Measures the settings of an accelerator on plain runs, which cost `samples` times the number of steps.

    Args:
        pipe: The pipeline, without LoRAs.
        name: "teacache" or "magcache".
        prompts: Prompts like those that will be sampled. They are taken in turn, each time with another seed.
        samples: Number of samples.
        batch: Most samples per evaluation of the network.
        progress: Whether to show progress on stderr; None shows it on a terminal.
        **arguments: What to measure: solver, steps, grid, guidance, height and width, as for a call.

    Returns:
        The accelerator; its thresholds are the defaults.

    Raises:
        ValueError: If the name is another, if the network has no site that it acts at, or as `calibrate_pipeline`.
    """
    if name not in RECORDED:
        raise ValueError(f"unknown method {name!r}; known: {', '.join(RECORDED)}")
    with counting(progress) as (_, advance):
        tuning = tuning_samples(pipe, prompts, batch, arguments, advance, "calibrate")
        shape = latent_shape(pipe.family, None, None)
        check_fit(make_accelerator(name), tuning.solver, torch.Size((1, *shape)), pipe.backbone)
        return RECORDED[name](tuning, samples)


def _teacache(tuning: Tuning, samples: int) -> TeaCache:
    runs = (teacache_pairs(tuning.solver, denoise, noise) for denoise, noise in tuning.batches(samples))
    return TeaCache(coefficients=teacache_coefficients([pair for pairs in runs for pair in pairs]))


def _magcache(tuning: Tuning, samples: int) -> MagCache:
    """The ratios of a network, each the mean over samples; no step is always full but for them."""
    runs = [(len(noise), magcache_ratios(tuning.solver, denoise, noise)) for denoise, noise in tuning.batches(samples)]
    columns = zip(*(ratios for _, ratios in runs), strict=True)
    weights = [size / samples for size, _ in runs]
    means = (sum(w * ratio for w, ratio in zip(weights, column, strict=True)) for column in columns)
    return MagCache(ratios=tuple(means), never=())


RECORDED: Final[Mapping[str, Callable[[Tuning, int], TeaCache | MagCache]]] = {
    "teacache": _teacache,
    "magcache": _magcache,
}
"""How each accelerator's settings are measured."""
