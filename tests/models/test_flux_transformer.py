"""The transformer of Flux.1: predictions of Diffusers on random weights, its sites, and rejected inputs."""

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel

from sadaflow.accelerators.sada.token_cache import TokenCache
from sadaflow.models import FluxConfig, FluxTransformer, Site
from support.checkpoints_flux import FLUX
from support.flux import backbone, conditioning, packed, relative


@pytest.mark.parametrize("guidance", [True, False])
def test_transformer_gives_the_reference_prediction(guidance: bool) -> None:
    reference, ours = backbone(guidance)
    inputs = conditioning(2, guidance)
    x, timestep = torch.randn(2, 16, 12, 8), torch.tensor([987.3, 20.0])
    ids = FluxPipeline._prepare_latent_image_ids(2, 6, 4, "cpu", torch.float32)
    with torch.no_grad():
        theirs = reference(
            packed(x),
            inputs["context"],
            inputs["pooled"],
            timestep / 1000,
            ids,
            torch.zeros(7, 3),
            inputs.get("guidance"),
        ).sample
        assert relative(packed(ours(x, timestep, **inputs)), theirs) < 1e-5


@pytest.mark.parametrize("guidance", [True, False])
def test_full_size_parameters_have_the_reference_names_and_shapes(guidance: bool) -> None:
    with torch.device("meta"):
        reference = FluxTransformer2DModel(guidance_embeds=guidance)
        ours = FluxTransformer(FluxConfig.from_dict(dict(reference.config)))
    shapes = [{name: tuple(tensor.shape) for name, tensor in m.state_dict().items()} for m in (reference, ours)]
    assert shapes[0] == shapes[1]
    assert sum(tensor.numel() for tensor in ours.parameters()) > 11.8e9


def test_trunk_and_blocks_are_sites() -> None:
    _, ours = backbone()
    x, seen = torch.randn(1, 16, 8, 12), []

    def watch(site, fn, hidden, *args):  # type: ignore[no-untyped-def]
        seen.append((site, tuple(hidden.shape)))
        return fn(hidden, *args)

    with torch.no_grad():
        plain = ours(x, 500.0, **conditioning(1))
        assert torch.equal(ours(x, 500.0, **conditioning(1), seam=watch), plain)
    trunk, *inside = seen
    blocks, attentions = inside[::2], inside[1::2]
    assert trunk[0].probe is not None
    assert trunk[0]._replace(probe=None) == Site("trunk", "trunk", 0, (4, 6), per_token=(2,), per_prefix=(0,))
    assert trunk[1] == (1, 24, 32)
    assert {site.kind for site, _ in blocks} == {"block"}
    assert {(site.prefix, *shape) for site, shape in blocks} == {(7, 1, 31, 32)}
    names = [f"{kind}.{index}" for kind in ("transformer_blocks", "single_transformer_blocks") for index in (0, 1)]
    assert [site.name for site, _ in blocks] == names
    assert attentions == [(Site("attention", f"{name}.attn", 0, (4, 6), prefix=7), (1, 31, 2, 16)) for name in names]


def test_tokens_of_the_trunk_keep_their_own_positions() -> None:
    """A shuffled subset of the image tokens, their rotary rows gathered alike, gives what masking the others gives."""
    _, ours = backbone()
    x, inputs = torch.randn(1, 16, 8, 12), conditioning(1)
    kept = torch.tensor([17, 3, 4, 20, 9])
    outputs = {}

    def subset(site, fn, hidden, *args):  # type: ignore[no-untyped-def]
        if site.kind != "trunk":
            return fn(hidden, *args)
        text, embedding, rope = args
        outputs["in order"] = fn(hidden[:, kept.sort().values], text, embedding, rope[:, kept.sort().values])
        outputs["shuffled"] = fn(hidden[:, kept], text, embedding, rope[:, kept])
        outputs["moved"] = fn(hidden[:, kept], text, embedding, rope[:, :5])
        return fn(hidden, *args)

    with torch.no_grad():
        ours(x, 500.0, **inputs, seam=subset)
    assert relative(outputs["shuffled"][:, kept.argsort()], outputs["in order"]) < 1e-5
    assert relative(outputs["moved"], outputs["shuffled"]) > 1e-3


def test_token_cache_prunes_the_trunk() -> None:
    _, ours = backbone()
    x, inputs = torch.randn(2, 16, 8, 12), conditioning(2)
    cache, rows = TokenCache(3, max_depth=0), [0, 2]
    counts: list[int] = []

    def counting(seam):  # type: ignore[no-untyped-def]
        def count(site, fn, hidden, *args):  # type: ignore[no-untyped-def]
            if site.kind == "block":
                counts.append(hidden.shape[1] - site.prefix)
            return seam(site, fn, hidden, *args)

        return count

    everything, few = torch.ones(2, 8, 12), -torch.ones(2, 8, 12)
    with torch.no_grad():
        plain = ours(x, 500.0, **inputs)
        assert torch.equal(ours(x, 500.0, **inputs, seam=cache.filling(rows)), plain)
        later = ours(x + 0.1, 480.0, **inputs)
        whole = ours(x + 0.1, 480.0, **inputs, seam=cache.pruning(rows, everything, 3, 100))
        assert relative(whole, later) < 1e-5
        pruned = ours(x, 500.0, **inputs, seam=counting(cache.pruning(rows, few, 3, 100)))
    assert counts and max(counts) < 24
    assert 0 < relative(pruned, later) < relative(torch.zeros_like(later), later)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("patch_size", 2),
        ("no_such_field", 1),
        ("axes_dims_rope", (4, 6, 8)),
        ("axes_dims_rope", (8, 8)),
        ("in_channels", 63),
    ],
)
def test_transformer_refuses_by_name_what_it_cannot_honour(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        FluxConfig.from_dict({**FLUX, field: value})


def test_transformer_refuses_odd_sides_and_guidance_it_does_not_know() -> None:
    _, dev = backbone()
    with pytest.raises(ValueError, match="8x7"):
        dev(torch.randn(1, 16, 8, 7), 500.0, **conditioning(1))
    with pytest.raises(ValueError, match="give guidance"):
        dev(torch.randn(1, 16, 8, 8), 500.0, **conditioning(1, guidance=False))
    with pytest.raises(ValueError, match="leave guidance out"):
        backbone(guidance=False)[1](torch.randn(1, 16, 8, 8), 500.0, **conditioning(1))
