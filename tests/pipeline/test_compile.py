"""Compiled backbones: equal outputs with every accelerator, and no needless recompilation."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, fx
from torch._dynamo.utils import counters

from sadaflow import SADA, Auto, GuidedDenoiser, Pipeline, sample
from sadaflow.accelerators import DeepCache, EasyCache, TeaCache, Uniform
from sadaflow.pipeline.compilation import compile_backbone
from sadaflow.solvers import Grid, RectifiedFlow, make_solver
from support.networks import small_flux, small_unet


@dataclass
class Counting:
    """A backend that compiles nothing, and counts what it is asked to."""

    graphs: list[fx.GraphModule] = field(default_factory=list)

    def __call__(self, graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        self.graphs.append(graph)
        return graph.forward


@pytest.fixture(autouse=True)
def forgotten() -> None:
    torch.compiler.reset()
    counters.clear()


MODELS = ["tiny-sd", "tiny-flux"]
TWO = ["red apple", "blue heart"]


def run(pipe: Pipeline, prompts: list[str] = TWO, accelerator: Any = None, steps: int = 13) -> Any:
    call: dict[str, Any] = {"max_sequence_length": 16} if pipe.name == "tiny-flux" else {}
    return pipe(prompts, steps=steps, seed=[3, 4, 5][: len(prompts)], accelerator=accelerator, output="latent", **call)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "whole"), [("tiny-sd", False), ("tiny-flux", True)])
def test_plans_rows_and_tokens_compile_nothing_new(model: str, whole: bool) -> None:
    backend = Counting()
    plain, pipe = Pipeline.from_pretrained(model), Pipeline.from_pretrained(model)
    pipe.compile(whole=whole, backend=backend)
    pruning, inside = SADA(token_trunk=True), DeepCache(2) if model == "tiny-sd" else TeaCache()
    branch = "guidance" if model == "tiny-sd" else Uniform(3)
    for prompts in (TWO[:1], TWO):
        run(pipe, prompts, branch, steps=6)
        run(pipe, prompts, pruning)
    run(pipe, [*TWO, "green tree"], steps=2)
    found = len(backend.graphs)
    for prompts, accelerator in ((TWO, SADA()), (TWO, "auto"), (TWO[:1], pruning), (TWO, branch), (TWO, inside)):
        ours, theirs = (run(one, prompts, accelerator) for one in (pipe, plain))
        torch.testing.assert_close(ours.latents, theirs.latents, rtol=1e-4, atol=1e-4)
        assert ours.stats.modes == theirs.stats.modes
    assert len(backend.graphs) == found
    assert not counters["graph_break"]


@pytest.mark.slow
def test_a_lora_changes_what_is_compiled(tmp_path: Path) -> None:
    plain, pipe = Pipeline.from_pretrained(), Pipeline.from_pretrained()
    pipe.compile(backend=Counting())
    before = run(pipe).latents
    generator = torch.Generator().manual_seed(0)
    layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    factors = {"lora_A": torch.randn(4, 128, generator=generator), "lora_B": torch.randn(128, 4, generator=generator)}
    save_file({f"{layer}.{name}.weight": factor for name, factor in factors.items()}, tmp_path / "a.safetensors")
    for one in (plain, pipe):
        one.load_lora(tmp_path / "a.safetensors")
    torch.testing.assert_close(run(pipe).latents, run(plain).latents, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(run(pipe).latents, before, atol=1e-2)
    pipe.compile(freeze=True, backend=Counting())
    with pytest.raises(ValueError, match="freeze=True"):
        pipe.load_lora(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="freeze=True"):  # what was frozen would be found again
        pipe.compile()


def test_compiling_regions_alone_undoes_the_whole() -> None:
    pipe, backend = Pipeline.from_pretrained(), Counting()
    pipe.compile(backend=backend).compile(whole=False, backend=backend)
    assert "evaluate" not in vars(pipe.backbone)


def test_what_cannot_be_compiled_is_refused() -> None:
    pipe = Pipeline.from_pretrained()
    for graphs in ({"mode": "reduce-overhead"}, {"backend": "cudagraphs"}):
        with pytest.raises(ValueError, match="CUDA graphs .* need whole=True"):
            pipe.compile(whole=False, **graphs)
    with pytest.raises(ValueError, match="freeze=True needs whole=True"):
        pipe.compile(whole=False, freeze=True)
    with pytest.raises(ValueError, match="without offload="):
        Pipeline.from_pretrained(offload="stream").compile()


@dataclass
class Overwriting:
    """A backend whose answers, where CUDA graphs were asked for, are written over by the next ones, as those of graphs
    are; it keeps how it was asked."""

    asked: list[Any] = field(default_factory=list)

    def __call__(self, graph: fx.GraphModule, inputs: list[Tensor], mode: str | None = None) -> Callable[..., Any]:
        self.asked.append(mode)
        if mode != "max-autotune":
            return graph.forward
        held: dict[torch.Size, Tensor] = {}

        def run(*args: Any) -> tuple[Tensor, ...]:
            (answer,) = graph.forward(*args)
            return (held.setdefault(answer.shape, torch.empty_like(answer)).copy_(answer),)

        return run


@pytest.mark.parametrize("kind", [pytest.param("unet", marks=pytest.mark.slow), "flux"])
def test_answers_outlive_the_next_evaluation(kind: str) -> None:
    plain, network = (small_unet() if kind == "unet" else small_flux(single=1) for _ in range(2))
    backend = Overwriting()
    compile_backbone(network, whole=True, freeze=False, options={"backend": backend, "mode": "max-autotune"})
    solver = make_solver("dpmpp2m", Grid.from_t(RectifiedFlow(), torch.linspace(0.98, 0, 17, dtype=torch.float64)))
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(2, *shape, generator=generator, dtype=torch.float64)

    given = {"context": drawn(5, 12), **({"pooled": drawn(10)} if kind == "flux" else {})}
    rest: Any = (solver.nodes, "sample", given, None, 1.0, torch.float64)  # the network's answer is x0
    ours, theirs, noise = GuidedDenoiser(network, *rest), GuidedDenoiser(plain, *rest), drawn(2, 8, 8)
    for accelerator in (None, Auto(), EasyCache(), Uniform()):
        ends = [sample(solver, one, noise, accelerator).x for one in (ours, theirs)]
        torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-10)
    found = len(backend.asked)
    assert set(backend.asked) == {"max-autotune"} and not counters["graph_break"]
    sample(solver, ours, noise, SADA(token_trunk=True, weights=(4.0, 0.0, 0.0)))  # hardly ever stable: it prunes
    assert "max-autotune-no-cudagraphs" in backend.asked[found:]
    first = ours(noise, 0)
    held = first.clone()
    ours(noise, 1)
    assert torch.equal(first, held)


@pytest.mark.slow
@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_inductor(model: str, freeze: bool) -> None:
    plain, pipe = Pipeline.from_pretrained(model), Pipeline.from_pretrained(model).compile(freeze=freeze)
    for accelerator in (None, "sada"):
        ours, theirs = (run(one, TWO, accelerator) for one in (pipe, plain))
        torch.testing.assert_close(ours.latents, theirs.latents, rtol=1e-4, atol=1e-4)
