"""Compiling a checkpoint's backbone so that every accelerator still works."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from sadaflow.models import ControlledUNet, FluxTransformer, UNet, compile_regions, compile_whole

_KINDS = 64  # residual blocks of different widths in one network, each of which compiles by itself


def compile_backbone(network: object, whole: bool, freeze: bool, options: Mapping[str, Any]) -> None:
    """See `Pipeline.compile`."""
    if not isinstance(network, (UNet, ControlledUNet, FluxTransformer)):
        raise ValueError(f"compile() knows sadaflow's own backbones, not {type(network).__name__}")
    if options.get("mode") in ("reduce-overhead", "max-autotune"):
        raise ValueError(
            f"mode={options['mode']!r} uses CUDA graphs, which write over answers that accelerators keep; "
            "mode='max-autotune-no-cudagraphs' tunes without"
        )
    if freeze and not whole:
        raise ValueError("freeze=True concerns what is compiled in one piece, and whole=False compiles none")
    if "recompile_limit" in inspect.signature(torch.compile).parameters:
        options = {"recompile_limit": _KINDS, **options}
    compile_regions(network, **options)
    if whole:
        compile_whole(network, freeze, **options)
