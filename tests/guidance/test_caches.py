"""Accelerators that keep parts of the network store them anew where guidance begins or ends."""

from typing import Any

import pytest
import torch

from sadaflow import Pipeline
from sadaflow.loading.embedded import embedded

CASES = {
    "tiny-flux": ("true_guidance", ("first-block", "taylorseer", "dicache", "teacache", "freqca", "fora")),
    "tiny-sd": ("guidance", ("deepcache interval=2", "sada")),
}
INTERVAL = "4 + interval low=0.3 high=3"


@pytest.fixture(scope="module")
def pipes() -> dict[str, Pipeline]:
    return {name: Pipeline.from_pretrained(embedded(name)) for name in CASES}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "accelerator"), [(name, way) for name, (_, ways) in CASES.items() for way in ways])
def test_caches_follow_the_branches(pipes: dict[str, Pipeline], name: str, accelerator: str) -> None:
    how: dict[str, Any] = {"steps": 14, "height": 32, "width": 32, "output": "latent", CASES[name][0]: INTERVAL}
    pipe = pipes[name]
    done = pipe("red apple", accelerator=accelerator, **how)
    nodes = pipe.solver(None, 14, height=32, width=32).nodes
    inside = [0.3 * node.alpha <= node.sigma <= 3 * node.alpha for node in nodes]
    changes = [step for step in range(1, 14) if inside[step] != inside[step - 1]]
    assert changes and all(done.stats.modes[0][step] == "full" for step in changes)
    assert torch.isfinite(done.latents).all()
    assert done.stats.nfe[0] <= sum(1.0 if here else 0.5 for here in inside)


def test_zero_steps_leave_a_cache_empty_and_are_refused(pipes: dict[str, Pipeline]) -> None:
    with pytest.raises(ValueError, match="fills its cache at the first step"):
        pipes["tiny-flux"](
            "red apple", true_guidance="zero-star", accelerator="first-block", steps=14, height=32, width=32
        )
