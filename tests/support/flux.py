"""Flux.1 for tests: small transformers with random inputs, tensor names of the original layout, packed latents."""


from collections.abc import Iterable, Mapping

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from torch import Tensor

from sadaflow.models import FluxConfig, FluxTransformer
from support.checkpoints_flux import FLUX

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


def to_original(state: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """The tensors `names` of the original layout; `test_single_file_flux` compares the layout with Diffusers'."""
    return {name: FluxTransformer.original.join(name, state) for name in names}


def packed(latents: Tensor) -> Tensor:
    return FluxPipeline._pack_latents(latents, *latents.shape)


def relative(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to the largest reference value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def backbone(guidance: bool = True) -> tuple[FluxTransformer2DModel, FluxTransformer]:
    """The transformer of Diffusers and ours, with equal random weights."""
    torch.manual_seed(0)
    reference = FluxTransformer2DModel(**FLUX, guidance_embeds=guidance).eval()
    ours = FluxTransformer(FluxConfig.from_dict(dict(reference.config))).eval()
    ours.load_state_dict(reference.state_dict())
    return reference, ours


def conditioning(samples: int, guidance: bool = True) -> dict[str, Tensor]:
    """Random prompt states, pooled states and guidance for a number of samples."""
    torch.manual_seed(1)
    made = {"context": torch.randn(samples, 7, 32), "pooled": torch.randn(samples, 32)}
    return made | ({"guidance": torch.linspace(1.5, 3.5, samples)} if guidance else {})
