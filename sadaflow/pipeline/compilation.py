"""Compiles a backbone so that every accelerator still works."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sadaflow.models import compile_regions, compile_whole

from ..sampling.conditioning import PreparedBackbone

_GRAPHLESS = {"reduce-overhead": None, "max-autotune": "max-autotune-no-cudagraphs"}
_RECOMPILATIONS = 64  # residual blocks of different widths in a network, each of which is compiled separately


def compile_backbone(network: object, whole: bool, freeze: bool, options: Mapping[str, Any]) -> None:
    """Compile the regions of a backbone, and the backbone as a whole; see `Pipeline.compile`.

    Args:
        network: The backbone.
        whole: Whether to compile it in one piece as well.
        freeze: Whether the weights become constants of that piece.
        options: Further arguments of `torch.compile`.

    Raises:
        ValueError: If it is no `PreparedBackbone`, or if `whole=False` is combined with CUDA graphs or
            `freeze`.
    """
    if not (isinstance(network, nn.Module) and isinstance(network, PreparedBackbone)):
        raise ValueError(
            f"compile() needs a network with `prepare`, `prepare_times` and `evaluate`, as sadaflow's own: "
            f"{type(network).__name__} has not all of them"
        )
    if freeze and not whole:
        raise ValueError("freeze=True needs whole=True: only a network compiled in one piece has its weights frozen")
    if "recompile_limit" in inspect.signature(torch.compile).parameters:
        options = {"recompile_limit": _RECOMPILATIONS, **options}
    regional = _without_graphs(options)
    if not whole and regional != options:
        asked = ", ".join(f"{name}={options[name]!r}" for name in ("mode", "backend") if name in options)
        raise ValueError(f"CUDA graphs ({asked}) need whole=True: only a network compiled in one piece becomes a graph")
    compile_regions(network, **regional)
    if whole:
        compile_whole(network, freeze, **options)


def _without_graphs(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same options without CUDA graphs.

    The next replay of a graph overwrites its output, but accelerators keep the outputs of regions.
    """
    regional = dict(options)
    if regional.get("backend") == "cudagraphs":
        regional["backend"] = "eager"
    if regional.get("mode") in _GRAPHLESS:
        regional["mode"] = _GRAPHLESS[regional["mode"]]
    return regional
