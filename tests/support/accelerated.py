"""What every accelerator must keep to on the pipeline of any family."""

from typing import Any

from sadaflow import SADA, Pipeline
from sadaflow.accelerators import Auto, FirstBlock, TaylorSeer, TeaCache
from support.flux import relative

ACCELERATORS = {
    "sada": SADA(),
    "auto": Auto(speedup=1.5),
    "teacache": TeaCache(),
    "first-block": FirstBlock(threshold=1.0, max_skips=1),
    "taylorseer": TaylorSeer(interval=3),
}
STEPS = 16


def check_acceleration(name: str, pipe: Pipeline, prompts: list[str], call: dict[str, Any], plain: Any) -> None:
    """Checks cost, closeness to the unaccelerated output `plain`, and that a sample alone is that of the batch."""
    accelerated = {**call, "steps": STEPS, "accelerator": ACCELERATORS[name]}
    fast = pipe(prompts, **accelerated)
    assert plain.stats.nfe == [STEPS] * len(prompts)
    assert all(nfe < STEPS for nfe in fast.stats.nfe)
    assert 0 < relative(fast.latents, plain.latents) < 0.3
    alone = pipe(prompts[-1], **{**accelerated, "seed": call["seed"][-1]})
    assert alone.stats.modes[0] == fast.stats.modes[-1]
    assert relative(alone.latents, fast.latents[-1:]) < 1e-4
