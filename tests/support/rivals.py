"""Runs recorded on small random networks, and the reference computation of one guidance branch of Flux."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sadaflow import sample
from sadaflow.accelerators import Accelerator
from sadaflow.models import FluxTransformer
from sadaflow.models.embeddings import sinusoids
from sadaflow.models.rope import after_text, rotary_table
from sadaflow.sampling import GuidedDenoiser, Trace
from sadaflow.solvers import Grid, RectifiedFlow, Solver, make_solver

GUIDANCE, STEPS, SIZE = 2.0, 24, (8, 6)
Array = np.ndarray[Any, Any]
Expected = list[tuple[str, Tensor]]
"""The mode and the guided prediction (C, h, w) of each step of a sample."""


def solver_of(steps: int = STEPS) -> Solver:
    times = torch.linspace(0.98, 0.0, steps + 1, dtype=torch.float64)
    return make_solver("euler", Grid.from_t(RectifiedFlow(), times))


def conditioning(net: nn.Module) -> list[dict[str, Tensor]]:
    """Inputs of the negative and the conditional branch, for two samples that differ."""
    generator = torch.Generator().manual_seed(2)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(2, *shape, generator=generator, dtype=torch.float64) * torch.tensor([0.3, 3.0]).view(
            -1, *(1,) * len(shape)
        )

    pooled = isinstance(net, FluxTransformer)
    return [{"context": drawn(5, 12), **({"pooled": drawn(10)} if pooled else {})} for _ in range(2)]


def recorded(net: Any, accelerator: Accelerator) -> Trace:
    """The trace of an accelerated guided run on a network."""
    solver, (negative, conditional) = solver_of(), conditioning(net)
    denoise = GuidedDenoiser(net, solver.nodes, "flow", conditional, negative, GUIDANCE, torch.float64)
    noise = torch.randn(2, 2, *SIZE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    trace = sample(solver, denoise, noise, accelerator, trace=True).trace
    assert trace is not None
    return trace


def compare(trace: Trace, expected: list[Expected], modes: set[str]) -> None:
    """Modes and predictions of both samples are the expected ones, and exactly these modes occur."""
    for row, steps in enumerate(expected):
        assert list(trace.modes[row]) == [mode for mode, _ in steps]
        predictions = torch.stack([prediction for _, prediction in steps])
        x0 = trace.x[row] - trace.sigma.view(-1, 1, 1, 1) * predictions  # of rectified flow
        torch.testing.assert_close(trace.x0[row], x0, rtol=1e-9, atol=1e-10)
    assert {mode for line in trace.modes for mode in line} == modes


class Branch:
    """All that the transformer computes for one sample and one branch of guidance at one recorded state."""

    def __init__(self, net: FluxTransformer, x: Tensor, timestep: float, inputs: Mapping[str, Tensor]) -> None:
        self.net = net
        self.joint: list[Tensor] = []
        blocks = [*net.transformer_blocks, *net.single_transformer_blocks]
        hooks = [block.register_forward_hook(lambda _, __, output: self.joint.append(output)) for block in blocks]
        hooks.append(blocks[0].register_forward_pre_hook(lambda _, args: self.joint.append(args[0])))
        hooks.append(blocks[-1].register_forward_pre_hook(self._keep, with_kwargs=True))
        self.plain = net(x[None], timestep, **inputs)
        for hook in hooks:
            hook.remove()
        self.length = inputs["context"].shape[1]
        rope = rotary_table((SIZE[0] // 2, SIZE[1] // 2), net.config.axes_dims_rope, torch.device("cpu"))
        self.rope = after_text(rope[None], self.length)
        embed, pooled = net.time_text_embed, inputs["pooled"]
        features = sinusoids(torch.tensor([timestep], dtype=pooled.dtype), 256).to(pooled.dtype)
        self.time = F.silu(embed.timestep_embedder(features) + embed.text_embedder(pooled))

    def _keep(self, last: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.last_block: Callable[[Tensor], Tensor] = lambda hidden: last(hidden, *args[1:], **kwargs)

    def image(self, block: int) -> Tensor:
        """Image tokens after that many blocks; -1: after all."""
        return self.joint[block][:, self.length :]

    @property
    def modulated(self) -> Array:
        """Image tokens as the first block's attention gets them: layer norm, scaled and shifted."""
        tokens = self.image(0).numpy()
        tokens = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(tokens.var(-1, keepdims=True) + 1e-6)
        linear = self.net.transformer_blocks[0].norm1.linear
        shift, scale = linear(self.time)[:, None].chunk(6, dim=-1)[:2]
        return tokens * (1 + scale.numpy()) + shift.numpy()

    def head(self, image: Tensor) -> Tensor:
        """The prediction (C, h, w) from image tokens after the blocks."""
        scale, shift = self.net.norm_out.linear(self.time)[:, None].chunk(2, dim=-1)
        tokens = self.net.proj_out(F.layer_norm(image, image.shape[-1:], eps=1e-6) * (1 + scale) + shift)
        h, w = SIZE[0] // 2, SIZE[1] // 2
        return tokens.reshape(h, w, -1, 2, 2).permute(2, 0, 3, 1, 4).reshape(-1, *SIZE)


def guided(branches: list[Tensor]) -> Tensor:
    return branches[0] + GUIDANCE * (branches[1] - branches[0])


def states(net: FluxTransformer, trace: Trace, row: int) -> Iterator[list[Branch]]:
    """The branches of a sample at each step."""
    inputs = [{name: value[row : row + 1] for name, value in branch.items()} for branch in conditioning(net)]
    for step in range(STEPS):
        yield [Branch(net, trace.x[row, step], float(trace.timestep[step]), branch) for branch in inputs]


def l1(new: list[Any], old: list[Any]) -> float:
    """mean |new - old| / mean |old|, over both branches."""
    new, old = (np.stack([np.asarray(one) for one in both]) for both in (new, old))
    return float(np.abs(new - old).mean() / np.abs(old).mean())


def taylor(steps: int, interval: int, order: int, first: int) -> Iterator[tuple[bool, Callable[[Any], Any]]]:
    """Whether each step is full, and what turns its residual, unknown at the others, into the one that is used."""
    counter, activated, factors = 0, [], dict[int, Any]()
    for step in range(steps):
        full = step < first or counter == interval - 1
        counter = 0 if full else counter + 1

        def used(residual: Any, step: int = step, full: bool = full) -> Any:
            nonlocal factors
            if not full:
                ahead = step - activated[-1]
                return sum(factors[k] * ahead**k / math.factorial(k) for k in factors)
            distance = step - activated[-1] if activated else 1
            activated.append(step)
            new = {0: residual}
            for k in range(order):
                if k not in factors or step <= first - 2:
                    break
                new[k + 1] = (new[k] - factors[k]) / distance
            factors = new
            return residual

        yield full, used
