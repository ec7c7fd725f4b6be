"""Strangers' networks with sites by the names of their submodules: every accelerator, every row, every token."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sadaflow import Denoiser, Guided, Sampled, Seams, sample
from sadaflow.accelerators import FirstBlock, MagCache, TaylorSeer, TeaCache, TokenCache
from sadaflow.checks import check_seams
from sadaflow.models import Site
from sadaflow.solvers import Grid, RectifiedFlow, make_solver
from support.strangers import StrangersDiT, strangers_dit, strangers_unet

FLOW = RectifiedFlow()
STEPS = 14
SOLVER = make_solver("euler", Grid.from_t(FLOW, torch.linspace(1, 0, STEPS + 1).tolist()))
BLOCKS = Seams(blocks="blocks", attention="attn")
CUT = Seams(deep=("downs.0.3", "ups.1.3"), shell=("downs.0.1", "ups.2.1"))
LABELS = torch.tensor([1, 7, 3])
DIT_NOISE = torch.randn(3, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
UNET_NOISE = torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def dit(net: nn.Module, rows: slice = slice(None), seams: Seams | None = BLOCKS) -> Denoiser:
    guidance = Guided(1.5, {"y": 10})
    return Denoiser.wrap(
        net, prediction="flow", schedule=FLOW, conditioning={"y": LABELS[rows]}, guidance=guidance, seams=seams
    )


def unet(net: nn.Module, rows: slice = slice(None), seams: Seams | None = CUT) -> Denoiser:
    return Denoiser.wrap(net, prediction="flow", schedule=FLOW, seams=seams)


FIRST_BLOCK = FirstBlock(threshold=0.2)
INSIDE_DIT: dict[str, Any] = {
    "first-block": FIRST_BLOCK,
    "teacache": TeaCache(threshold=0.4, coefficients=(1.0, 0.0)),
    "taylorseer": TaylorSeer(interval=3),
    "magcache": MagCache(ratios=(1.0,) * STEPS, threshold=0.1, never=()),
    "uniform+taylorseer": "uniform+taylorseer",
    "guidance": "guidance",
}
INSIDE_UNET: dict[str, Any] = {
    "deepcache": "deepcache",
    "taylorseer": TaylorSeer(interval=3),
    "magcache": MagCache(ratios=(1.0,) * STEPS, threshold=0.1, never=()),
    "uniform+deepcache": "uniform+deepcache",
}
OUTSIDE = {name: name for name in ("auto", "sada", "uniform")}
RUNS = [
    *((dit, strangers_dit, DIT_NOISE, choice) for choice in (INSIDE_DIT | OUTSIDE).items()),
    *((unet, strangers_unet, UNET_NOISE, choice) for choice in (INSIDE_UNET | {"sada": "sada"}).items()),
]


@pytest.mark.parametrize(
    ("wrap", "made", "noise", "choice"), RUNS, ids=[f"{run[0].__name__}-{run[3][0]}" for run in RUNS]
)
def test_every_accelerator_that_fits_saves_and_keeps_samples_apart(
    wrap: Callable[..., Denoiser], made: Callable[[], nn.Module], noise: Tensor, choice: tuple[str, Any]
) -> None:
    net = made()
    plain = sample(SOLVER, wrap(net, seams=None), noise)
    assert torch.equal(sample(SOLVER, wrap(net), noise).x, plain.x)
    fast = sample(SOLVER, wrap(net), noise, choice[1])
    assert all(nfe < STEPS for nfe in fast.stats.nfe)
    assert (fast.x - plain.x).abs().max() < 0.5 * plain.x.std()
    alone = sample(SOLVER, wrap(net, slice(1, 2)), noise[1:2], choice[1])
    assert alone.stats.modes[0] == fast.stats.modes[1]
    torch.testing.assert_close(alone.x[0], fast.x[1], rtol=0, atol=1e-11)


def test_the_first_block_decides_for_each_sample() -> None:
    fast = sample(SOLVER, dit(strangers_dit()), DIT_NOISE, FIRST_BLOCK)
    assert len({tuple(modes) for modes in fast.stats.modes}) > 1


def counted(net: nn.Module, parts: dict[str, nn.Module]) -> dict[str, int]:
    """Counts the rows that pass some submodules from now on."""
    counts = dict.fromkeys(parts, 0)
    for name, part in parts.items():
        part.register_forward_hook(
            lambda module, args, output, name=name: counts.update({name: counts[name] + len(args[0])})
        )
    return counts


def test_cached_evaluations_leave_the_blocks_out_and_cost_as_much_as_they_compute() -> None:
    net = strangers_dit()
    denoise = dit(net)
    sample(SOLVER, denoise, DIT_NOISE)  # the trial evaluations are made once
    counts = counted(net, {"block": net.blocks[2], "embed": net.embed})
    fast = sample(SOLVER, denoise, DIT_NOISE, TaylorSeer(interval=3, first=1))
    full = sum(modes.count("full") for modes in fast.stats.modes)
    assert counts == {"block": 2 * full, "embed": 2 * 3 * STEPS}
    assert full < fast.stats.nfe[0] * 3 < full + 0.1 * (3 * STEPS - full)


def test_a_cached_unet_runs_its_outer_layers_only() -> None:
    net = strangers_unet()
    denoise = unet(net)
    sample(SOLVER, denoise, UNET_NOISE)
    inner, outer = net.mid_block1, net.downs[0][0]
    counts = counted(net, {"inner": inner, "outer": outer, "last": net.final_res_block})
    fast = sample(SOLVER, denoise, UNET_NOISE, "deepcache")
    full = sum(modes.count("full") for modes in fast.stats.modes)
    assert counts == {"inner": full, "outer": 3 * STEPS, "last": 3 * STEPS}


def test_pruned_tokens_attend_to_the_last_keys_and_values_of_the_others() -> None:
    """The cached keys make a pruned evaluation of unchanged inputs equal to a full one."""
    denoise = dit(strangers_dit()).over(SOLVER.nodes, DIT_NOISE)
    cache, rows = TokenCache(3, 0), [0, 1, 2]
    full = denoise.evaluate(DIT_NOISE, 3, rows, cache.filling(rows))
    assert torch.equal(full, denoise(DIT_NOISE, 3))
    scores = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(4)) - 0.7
    pruned = denoise.evaluate(DIT_NOISE[1:], 3, [1, 2], cache.pruning([1, 2], scores[1:], 4, 16))
    torch.testing.assert_close(pruned, full[1:], rtol=0, atol=1e-11)
    assert 0 < int(cache.computed(1).sum()) < 12  # type: ignore[union-attr]
    moved = denoise.evaluate(DIT_NOISE[1:] + 0.1, 3, [1, 2], cache.pruning([1, 2], scores[1:], 4, 16))
    assert (moved - full[1:]).abs().max() > 1e-3


@pytest.mark.parametrize("registers", [0, 3])
def test_sites_obey_the_laws(registers: int) -> None:
    seams = Seams(blocks="blocks", attention="attn", prefix=registers)
    net = strangers_dit(registers=registers, sigma=True)
    report = check_seams(dit(net, seams=seams), SOLVER, DIT_NOISE, step=2)
    assert {law.where for law in report.laws} >= {"trunk", "block"}
    assert {law.name for law in report.laws} == {"identity", "sites", "names", "shapes", "rows", "tokens"}
    assert check_seams(unet(strangers_unet()), SOLVER, UNET_NOISE).passed


def test_registers_precede_the_image_tokens_at_the_sites() -> None:
    net, sites = strangers_dit(registers=3), []
    denoise = dit(net, seams=Seams(blocks="blocks", attention="attn", prefix=3)).over(SOLVER.nodes, DIT_NOISE)

    def seam(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor) -> Tensor:
        sites.append((site.kind, site.size, site.prefix, tuple(hidden.shape)))
        return fn(hidden, *args)

    denoise.evaluate(DIT_NOISE, 0, range(3), seam)
    assert sites[:3] == [
        ("trunk", (4, 4), 0, (6, 16, 32)),
        ("block", (4, 4), 3, (6, 19, 32)),
        ("attention", (4, 4), 3, (6, 19, 4, 8)),
    ]
    assert [kind for kind, *_ in sites] == ["trunk", *["block", "attention"] * 4]


def test_the_users_module_is_left_as_it_is_and_shares_its_weights() -> None:
    net = strangers_dit()
    before, children = dict(net.state_dict()), list(net.modules())
    denoise = dit(net)
    sample(SOLVER, denoise, DIT_NOISE, TaylorSeer(interval=3))
    assert list(net.modules()) == children and net.state_dict().keys() == before.keys()
    first = sample(SOLVER, denoise, DIT_NOISE, FIRST_BLOCK).x
    net.load_state_dict({name: 1.5 * tensor for name, tensor in before.items()})
    second = sample(SOLVER, denoise, DIT_NOISE, FIRST_BLOCK).x
    assert torch.equal(second, sample(SOLVER, dit(net), DIT_NOISE, FIRST_BLOCK).x) and not torch.equal(first, second)


def test_threads_evaluate_the_same_network_at_once() -> None:
    denoise = dit(strangers_dit())

    def run(seed: int) -> Sampled:
        return sample(SOLVER, denoise, DIT_NOISE.roll(seed, dims=3), FIRST_BLOCK)

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, range(4)))
    for seed, made in enumerate(together):
        assert torch.equal(made.x, run(seed).x) and made.stats.modes == run(seed).stats.modes


class Uneven(StrangersDiT):
    """Adds the output of its second block again before the last layer."""

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        kept: list[Tensor] = []
        handle = self.blocks[1].register_forward_hook(lambda *args: kept.append(args[-1]))
        later = self.blocks[-1].register_forward_hook(lambda *args: args[-1] + kept[-1])
        try:
            return super().forward(x, t, y)
        finally:
            handle.remove()
            later.remove()


class Skipping(StrangersDiT):
    """Adds something between two blocks."""

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        c = self.labels(y)
        kept = tokens
        for block in self.blocks:
            tokens = block(tokens, c) + (kept if block is self.blocks[1] else 0)
        return self.final(tokens).mT.reshape(x.shape)


@pytest.mark.parametrize(
    ("net", "seams", "words"),
    [
        (Skipping(), BLOCKS, "blocks.1 reads is not what blocks.0 returned"),
        (strangers_dit(), Seams(blocks="blocks", prefix=2), "17 do not fit|14 do not fit square patches"),
        (strangers_dit(), Seams(blocks="blocks", grid=(2, 3)), r"do not fit Seams.grid=\(2, 3\)"),
        (strangers_dit(), Seams(blocks=["time.0", "time.2"]), r"must be tokens \(B, L, C\), got \(1, 32\)"),
        (strangers_dit(registers=3), BLOCKS, "prefix=0 are not the image's"),
    ],
)
def test_blocks_that_are_no_stack_are_refused_by_name(net: nn.Module, seams: Seams, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sample(SOLVER, dit(net.double().eval(), seams=seams), DIT_NOISE)


def test_a_network_that_uses_the_output_of_a_block_twice_is_refused() -> None:
    torch.manual_seed(5)
    net = Uneven().double().requires_grad_(False).eval()
    with pytest.raises(ValueError, match="prediction changes when its blocks run one after the other"):
        sample(SOLVER, dit(net), DIT_NOISE)


@pytest.mark.parametrize(
    ("seams", "words"),
    [
        (Seams(deep=("downs.0.1", "ups.1.3")), "layers outside the part read what layers inside it computed"),
        (Seams(shell=("downs.0.3", "ups.1.1")), r"a shell must return the shape of its input \(1, 8, 8, 8\)"),
        (Seams(deep=("ups.1.3", "downs.0.3")), "ups.1.3 runs after downs.0.3"),
        (Seams(deep=("downs.0", "ups.1.3")), "'downs.0', a list that is not called itself"),
    ],
)
def test_a_part_of_a_unet_that_cannot_be_cut_out_is_refused(seams: Seams, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sample(SOLVER, unet(strangers_unet(), seams=seams), UNET_NOISE)


def test_accelerators_that_find_no_site_are_refused() -> None:
    with pytest.raises(ValueError, match="'deepcache' needs a U-Net"):
        sample(SOLVER, dit(strangers_dit()), DIT_NOISE, "deepcache")
    with pytest.raises(ValueError, match="'teacache' needs a transformer whose stack of blocks is one site with a"):
        sample(SOLVER, dit(strangers_dit(), seams=Seams(blocks="blocks")), DIT_NOISE, "teacache")
    with pytest.raises(ValueError, match="compiled as a whole"):
        dit(torch.compile(strangers_dit()))  # type: ignore[arg-type]
