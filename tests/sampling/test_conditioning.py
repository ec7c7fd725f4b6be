"""What does not depend on x is computed once per run, with equal results; convolutions may keep their layout."""

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sadaflow import Pipeline, sample
from sadaflow.accelerators import DeepCache
from sadaflow.families import Request
from sadaflow.models import (
    ControlledUNet,
    ControlNet,
    ControlNetConfig,
    FluxConfig,
    FluxTransformer,
    Seam,
    UNet,
    UNetConfig,
    call_through,
    kept_layouts,
)
from sadaflow.models import conv as models_conv
from sadaflow.models.conv import Conv2d
from sadaflow.sampling import GuidedDenoiser
from sadaflow.sampling import conditioning as conditioned
from sadaflow.solvers import Grid, RectifiedFlow, Solver, make_solver

HALF = {
    "block_out_channels": [8, 16],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "layers_per_block": 1,
    "cross_attention_dim": 12,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}
WHOLE = {**HALF, "in_channels": 4, "out_channels": 4, "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}
XL = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4, "projection_class_embeddings_input_dim": 34}
LABELLED = {"class_embed_type": "simple_projection", "projection_class_embeddings_input_dim": 10}


def unet(**more: Any) -> UNet:
    return UNet(UNetConfig.from_dict({**WHOLE, **more}))


def steered() -> ControlledUNet:
    config = {**HALF, "in_channels": 4, "conditioning_embedding_out_channels": [4, 8]}
    return ControlledUNet(unet(), [ControlNet(ControlNetConfig.from_dict(config)) for _ in range(2)])


def flux() -> FluxTransformer:
    heads: dict[str, Any] = {"attention_head_dim": 16, "num_attention_heads": 2, "axes_dims_rope": (4, 6, 6)}
    widths = {"in_channels": 16, "joint_attention_dim": 12, "pooled_projection_dim": 10}
    return FluxTransformer(FluxConfig(num_layers=1, num_single_layers=2, guidance_embeds=True, **heads, **widths))


NETWORKS = {
    "unet": unet,
    "text_time": lambda: unet(**XL),
    "added label": lambda: unet(**LABELLED),
    "joined label": lambda: unet(**LABELLED, class_embeddings_concat=True),
    "control": steered,
    "flux": flux,
}
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "text_time": {"pooled": (10,), "time_ids": (6,)},
    "added label": {"class_vector": (10,)},
    "joined label": {"class_vector": (10,)},
    "control": {"control": (2, 3, 16, 12)},
    "flux": {"pooled": (10,), "guidance": ()},
}
SETTINGS = {"control": [{"control_scales": (1.0, 0.5)}] * 3 + [{"control_scales": (0.0, 2.0)}] * 3}


@pytest.fixture(scope="module", params=NETWORKS)
def case(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    torch.manual_seed(0)
    network: nn.Module = NETWORKS[request.param]()
    for parameter in network.parameters():  # the residual ends of a ControlNet start at zero
        nn.init.normal_(parameter, std=0.2)
    return request.param, network.double().requires_grad_(False).eval()


@dataclass
class Plain:
    """The same network as a backbone that can prepare nothing."""

    network: nn.Module

    def __call__(self, x: Tensor, timestep: float, *, seam: Seam, **conditioning: Any) -> Tensor:
        return self.network(x, timestep, seam=seam, **conditioning)


def solver() -> Solver:
    return make_solver("euler", Grid.from_t(RectifiedFlow(), torch.linspace(0.98, 0.0, 7, dtype=torch.float64)))


def denoiser(name: str, backbone: Any) -> GuidedDenoiser:
    generator = torch.Generator().manual_seed(2)

    def drawn() -> Mapping[str, Tensor]:
        shapes = {"context": (5, 12), **SHAPES.get(name, {})}
        return {key: torch.rand(3, *shape, generator=generator, dtype=torch.float64) for key, shape in shapes.items()}

    nodes, settings = solver().nodes, SETTINGS.get(name)
    return GuidedDenoiser(backbone, nodes, "flow", drawn(), drawn(), 2.0, torch.float64, settings)


def answers(denoise: GuidedDenoiser) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(3)
    for rows, step in (([0, 1, 2], 0), ([2, 0], 1), ([2, 0], 2), ([1], 3), ([0, 1, 2], 4), ([1], 5)):
        x = torch.randn(len(rows), 4, 8, 6, generator=generator, dtype=torch.float64)
        yield denoise.evaluate(x, step, rows, call_through)
        yield torch.stack(denoise.evaluate_branches(x, step, rows, call_through))
        yield denoise.evaluate_conditional(x, step, rows, call_through)


@pytest.mark.parametrize("table", [True, False])
def test_prepared_answers_are_those_of_the_network(
    case: tuple[str, nn.Module], table: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, network = case
    if not table:
        monkeypatch.setattr(conditioned, "_TABLE", 0)
    for ours, plain in zip(answers(denoiser(name, network)), answers(denoiser(name, Plain(network))), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10)


def test_a_run_reads_prompt_and_time_once(case: tuple[str, nn.Module]) -> None:
    name, network = case
    calls: dict[str, int] = {}
    once = ("attn2.to_k", "attn2.to_v", "time_emb_proj", "norm1.linear", "cond_embedding.conv_in", "context_embedder")
    watched = [(path, part) for path, part in network.named_modules() if path.endswith(once)]
    hooks = [
        part.register_forward_hook(lambda *_, path=path: calls.update({path: calls.get(path, 0) + 1}))
        for path, part in watched
    ]
    sample(solver(), denoiser(name, network), torch.randn(3, 4, 8, 6, dtype=torch.float64))
    for hook in hooks:
        hook.remove()
    # Times are worked out twice: for one step, to see how large the table will be, and for all.
    assert set(calls) == {path for path, _ in watched} and all(count <= 2 for count in calls.values())


def layouts() -> Any:
    return models_conv._KEPT.get()


def test_convolutions_keep_their_layout_for_a_run_alone() -> None:
    torch.manual_seed(0)
    network = unet().requires_grad_(False).eval()
    x, context = torch.randn(2, 4, 8, 6), torch.randn(2, 5, 12)
    convolutions = [part for part in network.modules() if isinstance(part, Conv2d)]
    plain = network(x, 500.0, context)
    with pytest.raises(KeyError), kept_layouts(network):
        first = network(x, 500.0, context)
        assert all(layouts()[part].weight is not None for part in convolutions)
        assert torch.equal(network(x, 500.0, context), first)
        torch.testing.assert_close(network(x[:1], 500.0, context[:1]), first[:1], rtol=1e-5, atol=1e-6)
        raise KeyError
    torch.testing.assert_close(first, plain, rtol=1e-5, atol=1e-6)
    assert not layouts()
    network.conv_in.weight.data *= 2
    changed = network(x, 500.0, context)
    with kept_layouts(network):
        torch.testing.assert_close(network(x, 500.0, context), changed, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(changed, plain)


@pytest.mark.parametrize("unsuited", ["gradient", "double", "large"])
def test_other_convolutions_are_left_alone(unsuited: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = unet().requires_grad_(unsuited == "gradient")
    if unsuited == "double":
        network.double()
    if unsuited == "large":
        monkeypatch.setattr("sadaflow.models.conv._LIMIT", 1000)
    with kept_layouts(network):
        assert not layouts()


def test_kept_layouts_count_as_convolutions() -> None:
    """The share of multiplications is the same whichever way the convolutions run."""
    pipe = Pipeline.from_pretrained()
    kept = pipe("fox", steps=4, seed=0, accelerator=DeepCache(2), output="latent").stats.nfe
    solver = pipe.solver(None, 4)
    denoise = pipe.denoiser(solver, Request(["fox"]))
    plain = sample(solver, denoise, torch.randn(1, 4, 16, 16), DeepCache(2)).stats.nfe
    assert kept == pytest.approx(plain, rel=1e-6) and kept[0] < 4


def test_what_was_prepared_is_gone_when_the_decoder_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipeline.from_pretrained()
    made: list[weakref.ref[GuidedDenoiser]] = []
    prepare, decode = pipe.denoiser, pipe.family.decode

    def denoiser_of(*args: Any) -> GuidedDenoiser:
        denoise = prepare(*args)
        made.append(weakref.ref(denoise))
        return denoise

    def decoded(latents: Tensor) -> Any:
        assert made and made[0]() is None
        return decode(latents)

    monkeypatch.setattr(pipe, "denoiser", denoiser_of)
    monkeypatch.setattr(pipe.family, "decode", decoded)
    pipe("red apple", steps=2, output="tensor", progress=False)
