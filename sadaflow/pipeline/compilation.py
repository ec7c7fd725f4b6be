"""Compiling a checkpoint's backbone so that every accelerator still works."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from sadaflow.models import ControlledUNet, FluxTransformer, UNet, compile_regions, compile_whole

_GRAPHLESS = {"reduce-overhead": None, "max-autotune": "max-autotune-no-cudagraphs"}
_KINDS = 64  # residual blocks of different widths in one network, each of which compiles by itself


def compile_backbone(network: object, whole: bool, freeze: bool, options: Mapping[str, Any]) -> None:
    """See `Pipeline.compile`."""
    if not isinstance(network, (UNet, ControlledUNet, FluxTransformer)):
        raise ValueError(f"compile() knows sadaflow's own backbones, not {type(network).__name__}")
    if freeze and not whole:
        raise ValueError("freeze=True concerns what is compiled in one piece, and whole=False compiles none")
    if "recompile_limit" in inspect.signature(torch.compile).parameters:
        options = {"recompile_limit": _KINDS, **options}
    regional = _without_graphs(options)
    if not whole and regional != options:
        asked = ", ".join(f"{name}={options[name]!r}" for name in ("mode", "backend") if name in options)
        raise ValueError(f"CUDA graphs ({asked}) hold what is compiled in one piece, and whole=False compiles none")
    compile_regions(network, **regional)
    if whole:
        compile_whole(network, freeze, **options)


def _without_graphs(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Options that compile alike without CUDA graphs: a graph's next replay writes over its answer, and the answers of
    regions are what accelerators keep."""
    regional = dict(options)
    if regional.get("backend") == "cudagraphs":
        regional["backend"] = "eager"
    if regional.get("mode") in _GRAPHLESS:
        regional["mode"] = _GRAPHLESS[regional["mode"]]
    return regional
