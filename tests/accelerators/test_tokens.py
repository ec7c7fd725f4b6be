"""Token-wise pruning inside real blocks: which tokens are attended to, where it is exact, what it stores."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from sadaflow.accelerators import TokenCache
from sadaflow.accelerators.sada.token_cache import keep_tokens
from sadaflow.models import FluxConfig, FluxTransformer, Seam, Site, UNet, UNetConfig, call_through
from sadaflow.models.attention import TransformerBlock
from sadaflow.models.rope import after_text, rotary_table
from sadaflow.models.streams.blocks import DoubleBlock, SingleBlock
from support.checkpoints_flux import FLUX

UNET = {
    "block_out_channels": [32, 32], "attention_head_dim": 2, "cross_attention_dim": 24, "norm_num_groups": 8,
    "layers_per_block": 1, "down_block_types": ["CrossAttnDownBlock2D"] * 2, "in_channels": 4, "out_channels": 4,
    "up_block_types": ["CrossAttnUpBlock2D"] * 2, "use_linear_projection": False,
}  # fmt: skip

Network = Callable[[Tensor, Seam, Sequence[int]], Tensor]
"""Of states of some rows, whose numbers are given so that they meet their own conditioning."""


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def unet(rows: int) -> tuple[Network, Tensor]:
    network, context = UNet(UNetConfig.from_dict(UNET)).eval(), torch.randn(rows, 5, 24)
    return lambda x, seam, rows: network(x, 300.0, context[list(rows)], seam), torch.randn(rows, 4, 8, 12)


def unet_without_text(rows: int) -> tuple[Network, Tensor]:
    network = UNet(UNetConfig.from_dict({**UNET, "cross_attention_dim": 32})).eval()
    return lambda x, seam, rows: network(x, 300.0, None, seam), torch.randn(rows, 4, 8, 12)


def flux(rows: int) -> tuple[Network, Tensor]:
    network = FluxTransformer(FluxConfig.from_dict(FLUX)).eval()
    context, pooled = torch.randn(rows, 7, 32), torch.randn(rows, 32)

    def answer(x: Tensor, seam: Seam, rows: Sequence[int]) -> Tensor:
        return network(x, 300.0, context=context[list(rows)], pooled=pooled[list(rows)], seam=seam)

    return answer, torch.randn(rows, 16, 8, 12)


networks = pytest.mark.parametrize("make", [unet, unet_without_text, flux])
Make = Callable[[int], tuple[Network, Tensor]]
TWO = range(4)  # rows of two samples in two branches


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=3e-6 * float(theirs.abs().max()))


def uneven(samples: int) -> Tensor:
    """Scores (samples, 8, 12) under which samples keep different numbers of tokens."""
    scores = torch.randn(samples, 8, 12) - torch.linspace(0, 1.5, samples)[:, None, None]
    assert len({len(kept) for kept in keep_tokens(scores, 3, 1000)}) == samples
    return scores


@networks
@pytest.mark.parametrize("keys", ["cached", "dropped"])
def test_all_tokens_kept_is_the_whole_network(make: Make, keys: str) -> None:
    network, x = make(4)
    cache = TokenCache(2, max_depth=1, keys=keys)
    assert torch.equal(network(x, cache.filling([0, 1]), TWO), network(x, call_through, TWO))
    answer = network(x + 0.3, cache.pruning([0, 1], torch.ones(2, 8, 12), 3, 1000), TWO)
    close(answer, network(x + 0.3, call_through, TWO))


@networks
def test_on_an_unchanged_input_cached_keys_give_the_whole_networks_answer(make: Make) -> None:
    network, x = make(4)
    plain, scores, off = network(x, call_through, TWO), uneven(2), {}
    for keys in ("cached", "dropped"):
        cache = TokenCache(2, max_depth=1, keys=keys)
        network(x, cache.filling([0, 1]), TWO)
        answer = network(x, cache.pruning([0, 1], scores, 3, 1000), TWO)
        off[keys] = float((answer - plain).abs().max() / plain.abs().max())
    assert off["cached"] < 3e-6 and off["dropped"] > 1e-3


@networks
def test_a_sample_is_pruned_alike_alone_and_among_others(make: Make) -> None:
    """Two evaluations: the second reads what the first wrote."""
    network, x = make(6)
    scores = uneven(3)

    def answers(parts: Sequence[list[int]]) -> Tensor:
        cache, found = TokenCache(3, max_depth=1), torch.empty_like(x)
        for move in (0.0, 0.1, 0.2):
            for samples in parts:
                rows = [branch * 3 + sample for branch in range(2) for sample in samples]
                pruning = cache.pruning(samples, scores[samples] * (1 - 5 * move), 3, 1000)
                found[rows] = network(x[rows] + move, pruning if move else cache.filling(samples), rows)
        return found

    together = answers([[0, 1, 2]])
    close(answers([[2, 0], [1]]), together)
    close(answers([[1], [0], [2]]), together)


@pytest.mark.parametrize("kind", ["block", "double", "single"])
def test_kept_tokens_attend_to_all_the_others_as_they_last_were(kind: str) -> None:
    """A block works token by token but for its attention, so the reference is the whole block on a mixture: kept
    tokens new, the others old."""
    size, length, branches = (4, 6), 5, 2
    rope = rotary_table(size, (4, 6, 6), torch.device("cpu")).expand(branches, -1, -1, -1)
    parts, context = torch.randn(branches, 12 * 32), torch.randn(branches, 3, 24)
    text, old, new = (torch.randn(branches, count, 32) for count in (length, 24, 24))
    block: Any
    if kind == "block":
        block = TransformerBlock(32, 2, 24).eval()
        site, args = Site("block", "b", 0, size), (block.attn2.keys_and_values(context),)

        def answer(hidden: Tensor, *args: Tensor, seam: Seam = call_through) -> Tensor:
            return block(hidden, *args, seam=seam, site=site)
    else:
        block = {"double": DoubleBlock, "single": SingleBlock}[kind](32, 2).eval()
        site, args = Site("trunk", "trunk", 0, size, per_token=(2,)), (text, parts[:, : block.parts * 32], rope)

        def answer(hidden: Tensor, *args: Tensor, seam: Seam = call_through) -> Tensor:
            inner = Site("block", "b", 0, size, prefix=length)
            joint, parts, rope = torch.cat((args[0], hidden), dim=1), args[1], after_text(args[2], length)
            return block(joint, parts, rope, seam=seam, site=inner)[:, length:]

    cache, scores = TokenCache(1, max_depth=0), torch.randn(1, *size)
    (kept,) = keep_tokens(scores, 3, 1000)
    filling, pruning = cache.filling([0]), cache.pruning([0], scores, 3, 1000)
    filling(site, partial(answer, seam=filling), old, *args)
    found = pruning(site, partial(answer, seam=pruning), new, *args)
    mixture = old.clone()
    mixture[:, kept] = new[:, kept]
    expected = answer(old, *args)
    expected[:, kept] = answer(mixture, *args)[:, kept]
    assert 0 < len(kept) < 24
    close(found, expected)


@networks
def test_what_is_held_is_what_is_stated_and_never_more_than_allowed(make: Make) -> None:
    network, x = make(4)
    sites: list[tuple[Site, int]] = []

    def watch(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
        sites.append((site, hidden.numel() * hidden.element_size()))
        return fn(hidden, *args)

    network(x, watch, TWO)
    attended = sum(2 * size for site, size in sites if site.kind == "attention")
    outputs = sum(size for site, size in sites if site.kind == ("trunk" if make is flux else "block"))
    free = TokenCache(2, max_depth=1)
    for _ in range(2):
        network(x, free.filling([0, 1]), TWO)
    assert free.nbytes == outputs + attended
    for limit in (0, free.nbytes // 2, free.nbytes - 1):
        cache, few = TokenCache(2, max_depth=1, limit=limit), -torch.ones(2, 8, 12)
        held = []

        def watched(seam: Seam, cache: TokenCache = cache, held: list[int] = held) -> Seam:
            def also(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
                output = seam(site, fn, hidden, *args)
                held.append(cache.nbytes)
                return output

            return also

        plain = network(x, call_through, TWO)
        for _ in range(2):
            assert torch.equal(network(x, watched(cache.filling([0, 1])), TWO), plain)
        close(network(x, watched(cache.pruning([0, 1], few, 3, 1000)), TWO), plain)
        assert max(held) <= limit
        assert cache.holds(0) is (cache.nbytes > 0)


@networks
def test_a_transformer_can_be_left_alone(make: Make) -> None:
    network, x = make(2)
    cache = TokenCache(1, max_depth=1, trunk=False)
    network(x, cache.filling([0]), [0, 1])
    assert (cache.nbytes == 0) is (not cache.holds(0)) is (make is flux)


def test_text_tokens_are_never_pruned() -> None:
    network, x = flux(2)
    cache, seen = TokenCache(1, max_depth=0), []
    network(x, cache.filling([0]), [0, 1])
    pruning = cache.pruning([0], -torch.ones(1, 8, 12), 3, 1000)

    def watch(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
        def counting(hidden: Tensor, *args: Tensor) -> Tensor:
            seen.append((hidden.shape[1], args[0].shape[1]))
            return fn(hidden, *args)

        return pruning(site, counting if site.kind == "attention" else fn, hidden, *args)

    network(x, watch, [0, 1])
    (kept,) = keep_tokens(-torch.ones(1, 4, 6), 3, 1000)
    assert seen == [(7 + len(kept), 7 + 24)] * 4 and len(kept) < 24


def test_the_number_of_tokens_is_a_multiple_of_a_sixteenth_of_a_map_that_is_not_square() -> None:
    scores = torch.full((1, 4, 24), -1.0)
    scores[0, 0, :9] = 1.0  # with the centres (1, 1), ..., (1, 22) and (3, 1), ..., (3, 22): 9 + 16 of 96
    kept = keep_tokens(scores, 3, 1000)[0].tolist()
    centres = {row * 24 + column for row in (1, 3) for column in range(1, 24, 3)}
    assert len(kept) == 30 and set(range(9)) | centres <= set(kept)  # 25 rounded up to a multiple of 6
    wide = keep_tokens(torch.full((1, 4, 24), 1.0), 3, 1000)[0]
    assert wide.tolist() == list(range(96))
