"""Tensor names of Flux.1's original layout, and latents packed as its reference packs them."""

from diffusers import FluxPipeline
from torch import Tensor

TOP = [f"{name}.{layer}" for name in ("time_in", "vector_in", "guidance_in") for layer in ("in_layer", "out_layer")]
TOP += ["img_in", "txt_in", "final_layer.linear", "final_layer.adaLN_modulation.1"]
STREAM = ["attn.qkv", "attn.proj", "mlp.0", "mlp.2", "mod.lin"]
SINGLE = ["linear1", "linear2", "modulation.lin"]


def original_names(double: int, single: int) -> list[str]:
    """The tensors of the original layout (black-forest-labs/flux, src/flux/model.py), with guidance."""
    modules = [*TOP]
    modules += [f"double_blocks.{i}.{s}_{part}" for i in range(double) for s in ("img", "txt") for part in STREAM]
    modules += [f"single_blocks.{i}.{part}" for i in range(single) for part in SINGLE]
    norms = [f"double_blocks.{i}.{s}_attn.norm" for i in range(double) for s in ("img", "txt")]
    norms += [f"single_blocks.{i}.norm" for i in range(single)]
    scales = [f"{norm}.{which}_norm.scale" for norm in norms for which in ("query", "key")]
    return [f"{module}.{leaf}" for module in modules for leaf in ("weight", "bias")] + scales


def packed(latents: Tensor) -> Tensor:
    return FluxPipeline._pack_latents(latents, *latents.shape)
