"""How the peers' packages are switched on in Diffusers' pipeline, and which of our accelerators have the same rules."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module, metadata
from typing import Any

from ...accelerators import Accelerator, MagCache, make_accelerator

_SKIP_RANGE = 2  # attention is computed at every second step, as in the examples of Diffusers' documentation
_ATTENTION_WEIGHT = 0.3  # of the extrapolated attention of FasterCache, as in the same examples


@dataclass(frozen=True)
class Peer:
    """A method of another package.

    Attributes:
        name: Name of its row.
        package: Distribution that holds it.
        enable: Switches it on in a pipeline of Diffusers, for the rest of the pipeline's life.
    """

    name: str
    package: str
    enable: Callable[[Any], object]

    @property
    def version(self) -> str | None:
        """Installed version of the package; None if it is not installed."""
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return None


@dataclass(frozen=True)
class Methods:
    """The methods to measure on a network.

    Attributes:
        theirs: Methods of other packages.
        ours: Accelerators of this library, by their names in the table.
    """

    theirs: Sequence[Peer]
    ours: Mapping[str, Accelerator]


def unet_methods() -> Methods:
    """DeepCache's helper at the intervals of its paper. Diffusers' hooks and cache-dit do not take this pipeline."""
    intervals = (2, 3, 5)
    theirs = [Peer(f"DeepCache, interval {n}", "DeepCache", partial(_deepcache, interval=n)) for n in intervals]
    names = [f"deepcache interval={n}" for n in intervals]
    return Methods(theirs, _made(*names, "auto speedup=2", "auto speedup=3"))


def transformer_methods(steps: int, ratios: Sequence[float]) -> Methods:
    """Diffusers' hooks and cache-dit on Flux's transformer.

    Args:
        steps: Number of steps.
        ratios: Ratios of the network's residuals from step to step, for MagCache (see `magcache_ratios`).
    """
    names = ("first-block threshold=0.05", "dbcache", "dbcache front=8", "taylorseer interval=5")
    magcache = MagCache(ratios=tuple(ratios), threshold=0.06, max_skips=3, retention=0.2, never=())
    ours = {**_made(*names), "magcache, its hook's settings": magcache, **_made("auto speedup=2", "auto speedup=3")}
    return Methods([*_hooks(steps, ratios), *_cache_dit_methods(steps)], ours)


def _made(*names: str) -> dict[str, Accelerator]:
    return {name: make_accelerator(name) for name in names}


def _hooks(steps: int, ratios: Sequence[float]) -> list[Peer]:
    """Diffusers' hooks with their default settings, except where those do not fit any network."""
    attention = {"spatial_attention_block_skip_range": _SKIP_RANGE}
    faster = {"is_guidance_distilled": True, "attention_weight_callback": lambda module: _ATTENTION_WEIGHT}
    configs: dict[str, tuple[str, dict[str, Any], bool]] = {
        "FirstBlockCache": ("FirstBlockCacheConfig", {}, False),
        "MagCache": ("MagCacheConfig", {"num_inference_steps": steps, "mag_ratios": list(ratios)}, False),
        "TaylorSeer": ("TaylorSeerCacheConfig", {}, False),
        "TaylorSeer, lite": ("TaylorSeerCacheConfig", {"use_lite_mode": True}, False),
        "PyramidAttentionBroadcast": ("PyramidAttentionBroadcastConfig", attention, True),
        "FasterCache": ("FasterCacheConfig", {**attention, **faster}, True),
    }
    return [
        Peer(f"Diffusers' {name}", "diffusers", partial(_hook, config=config, settings=settings, timestep=timestep))
        for name, (config, settings, timestep) in configs.items()
    ]


def _cache_dit_methods(steps: int) -> list[Peer]:
    """DBCache with its default of 8 first blocks and with 1, with and without TaylorSeer."""
    return [
        Peer(
            f"cache-dit's DBCache, front {front}{', TaylorSeer' * taylor}",
            "cache-dit",
            partial(_cache_dit, front=front, steps=steps, taylor=taylor),
        )
        for front in (8, 1)
        for taylor in (False, True)
    ]


def _deepcache(pipe: Any, interval: int) -> None:
    helper = import_module("DeepCache").DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=interval, cache_branch_id=0)
    helper.enable()


def _hook(pipe: Any, config: str, settings: Mapping[str, Any], timestep: bool) -> None:
    further = {"current_timestep_callback": lambda: pipe.current_timestep} if timestep else {}
    pipe.transformer.enable_cache(getattr(import_module("diffusers"), config)(**settings, **further))


def _cache_dit(pipe: Any, front: int, steps: int, taylor: bool) -> None:
    cache_dit = import_module("cache_dit")
    cache_dit.enable_cache(
        pipe,
        cache_config=cache_dit.DBCacheConfig(Fn_compute_blocks=front, num_inference_steps=steps),
        calibrator_config=cache_dit.TaylorSeerCalibratorConfig(taylorseer_order=1) if taylor else None,
    )
