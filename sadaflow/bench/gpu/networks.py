"""Published networks with random weights created on the device, and their inputs for sampling. No files are used."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sadaflow.models import lay_out_channels_last
from sadaflow.solvers import Solver, from_scheduler_config

from ...sampling.conditioning import Backbone
from ...sampling.denoiser import GuidedDenoiser
from ..speed.architectures import Architecture, architecture
from ..speed.random_checkpoint import empty_backbone

FULL = {"sd21": torch.float16, "sdxl": torch.float16, "flux": torch.bfloat16}
"""The networks that are measured, and their dtype on a GPU."""

_SMALL = {"sd21": "random-sd21/16", "sdxl": "random-sdxl/16", "flux": "random-flux/16"}
_GUIDANCE = {"sd21": 7.5, "sdxl": 5.0, "flux": 3.5}
_CLIP_TOKENS, _T5_TOKENS, _SMALL_T5_TOKENS = 77, 512, 16


@dataclass(frozen=True)
class Network:
    """A backbone with the sizes of its inputs: latents of `shape` (C, h, w), and `tokens` of text."""

    name: str
    made: Architecture
    backbone: nn.Module
    dtype: torch.dtype
    device: torch.device
    shape: tuple[int, int, int]
    tokens: int
    guidance: float
    _made: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_flux(self) -> bool:
        return self.name == "flux"

    @property
    def config(self) -> Mapping[str, Any]:
        """Contents of the backbone's config.json."""
        return self.made.components["transformer" if self.is_flux else "unet"]

    @property
    def bytes(self) -> int:
        """Bytes of the weights."""
        return sum(weight.numel() * weight.element_size() for weight in self.backbone.parameters())

    def solver(self, steps: int, name: str | None = None) -> Solver:
        """Builds the solver `name` on the published schedule; None takes the solver that the scheduler config names."""
        tokens = self.shape[1] * self.shape[2] // 4
        return from_scheduler_config(self.made.scheduler, steps, solver=name, image_tokens=tokens).solver

    def noise(self, batch: int) -> Tensor:
        """Returns unit-normal noise (batch, C, h, w) in float32, rounded to the network's dtype."""
        return self._once(f"noise {batch}", lambda: self._drawn(0, batch, *self.shape).float())

    def conditioning(self, batch: int) -> dict[str, Tensor]:
        """Returns random text states as keyword arguments of the backbone.

        "context" is (batch, tokens, width), and "pooled", if the network has it, (batch, width).
        """
        return dict(self._once(f"conditioning {batch}", lambda: self._condition(batch)))

    def denoiser(self, solver: Solver, batch: int, backbone: Backbone | None = None) -> GuidedDenoiser:
        """Returns the denoiser (x0) of `batch` samples, guided against a branch of zeros; Flux embeds its guidance.

        `backbone` replaces the network's own, if given.
        """
        conditional, negative = self._once(f"branches {batch}", lambda: self._branches(batch))
        prediction = from_scheduler_config(self.made.scheduler, 10, image_tokens=1024).prediction
        how: Any = self.backbone if backbone is None else backbone
        return GuidedDenoiser(how, solver.nodes, prediction, conditional, negative, self.guidance, self.dtype)

    def _branches(self, batch: int) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        conditional = self.conditioning(batch)
        if self.is_flux:
            return conditional | {"guidance": torch.full((batch,), self.guidance, device=self.device)}, None
        negative = {name: torch.zeros_like(tensor) for name, tensor in conditional.items()}
        if self.name != "sdxl":
            return conditional, negative
        side = 8 * self.shape[1]
        ids = torch.tensor([side, side, 0, 0, side, side], dtype=torch.float32, device=self.device).expand(batch, -1)
        return conditional | {"time_ids": ids}, negative | {"time_ids": ids}

    def _condition(self, batch: int) -> dict[str, Tensor]:
        config = self.config
        width = config["joint_attention_dim" if self.is_flux else "cross_attention_dim"]
        found = {"context": self._drawn(1, batch, self.tokens, width)}
        if self.is_flux:
            found["pooled"] = self._drawn(2, batch, config["pooled_projection_dim"])
        elif self.name == "sdxl":
            pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
            found["pooled"] = self._drawn(2, batch, pooled)
        return found

    def _drawn(self, seed: int, *shape: int) -> Tensor:
        drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
        return drawn.to(self.device, self.dtype)

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        """Returns a function that calls `make` at its first call only, so that later timing excludes it."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]


def build(name: str, device: torch.device, *, small: bool, dtype: torch.dtype | None = None) -> Network:
    """Builds a network with random weights.

    Args:
        name: One of `FULL`.
        device: Where the weights are created.
        small: Build a small network of the same architecture, in float32 unless `dtype` is given.
        dtype: Type of the weights.
    """
    made = architecture(_SMALL[name] if small else f"random-{name}")
    dtype = dtype or (torch.float32 if small else FULL[name])
    component = "transformer" if name == "flux" else "unet"
    backbone = empty_backbone(component, made.components[component]).to(dtype).to_empty(device=device)
    fill_randomly(backbone)
    if device.type == "cuda":
        lay_out_channels_last(backbone)
    channels = 16 if name == "flux" else 4
    tokens = (_SMALL_T5_TOKENS if small else _T5_TOKENS) if name == "flux" else _CLIP_TOKENS
    shape = (channels, made.size // 8, made.size // 8)
    return Network(name, made, backbone, dtype, device, shape, tokens, _GUIDANCE[name])


@torch.no_grad()
def fill_randomly(network: nn.Module, seed: int = 0) -> None:
    """Fills the weights in place so that activations roughly keep their magnitude, and are finite in every dtype.

    Matrices are normal with deviation 1/sqrt(inputs), norms near 1, biases near 0.
    """
    device = next(network.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    for name, weight in network.named_parameters():
        if weight.ndim > 1:
            weight.normal_(0, 1 / math.sqrt(math.prod(weight.shape[1:])), generator=generator)
        else:
            weight.normal_(float(name.endswith("weight")), 0.1, generator=generator)
    network.requires_grad_(False).eval()
