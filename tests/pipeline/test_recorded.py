"""Settings of TeaCache and MagCache measured on transformers: closed forms of one run, and the command's text."""

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.accelerators import MagCache, TeaCache, make_accelerator
from sadaflow.cli import main
from sadaflow.models import Site
from sadaflow.pipeline.recorded import record_accelerator
from support.checkpoints_chroma import chroma
from support.checkpoints_flux2 import flux2_klein
from support.checkpoints_sd3 import sd3
from support.checkpoints_z_image import z_image

CALL = {"steps": 6, "height": 24, "width": 16, "guidance": 1.0}
MAKERS = {
    "chroma": chroma,
    "flux2": flux2_klein,
    "sd3": lambda folder: sd3(folder, "3 medium"),
    "z_image": z_image,
}


@pytest.fixture(scope="module", params=MAKERS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipeline, Path]:
    folder = MAKERS[request.param](tmp_path_factory.mktemp(request.param) / "made")
    return Pipeline.from_pretrained(folder), folder


def trunks(pipe: Pipeline, call: dict[str, object]) -> list[tuple[Tensor, Tensor]]:
    """Input and output of the stack of blocks at each evaluation of a plain run of one sample."""
    seen = []

    def seam(site: Site, fn, hidden: Tensor, *args: Tensor | None) -> Tensor:
        output = fn(hidden, *args)
        if site.kind == "trunk":
            seen.append((hidden, output))
        return output

    network, forward = pipe.backbone, type(pipe.backbone).evaluate
    evaluate = lambda x, time, given, _: forward(network, x, time, given, seam)  # noqa: E731
    network.evaluate = evaluate  # the instance's own, for this test alone
    try:
        pipe("a tram in the rain", seed=10_000, output="latent", **call)
    finally:
        del network.evaluate
    return seen


def test_magcache_ratios_are_those_of_a_plain_run(made: tuple[Pipeline, Path]) -> None:
    pipe, _ = made
    call = {**CALL, "guidance": 0.0 if type(pipe.family).__name__ == "ZImage" else 1.0}
    found = record_accelerator(pipe, "magcache", ["a tram in the rain"], samples=1, progress=False, **call)
    norms = [(after - before).norm(dim=-1) for before, after in trunks(pipe, call)]
    expected = [1.0, *(float((new / old).mean()) for old, new in zip(norms, norms[1:], strict=False))]
    assert isinstance(found, MagCache) and found.ratios == pytest.approx(expected, rel=1e-4) and found.never == ()
    assert pipe("a", accelerator=found, output="latent", seed=1, **call).latents.isfinite().all()


def test_teacache_fits_a_polynomial_to_each_network(made: tuple[Pipeline, Path]) -> None:
    pipe, _ = made
    found = record_accelerator(pipe, "teacache", ["a tram", "a fox"], samples=2, batch=1, progress=False, **CALL)
    assert isinstance(found, TeaCache) and len(found.coefficients) == 5 and np.isfinite(found.coefficients).all()
    assert pipe("a", accelerator=found, output="latent", seed=1, **CALL).stats.nfe[0] <= CALL["steps"]


def test_the_command_prints_what_accelerate_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(z_image(tmp_path / "made"))
    flags = [folder, "--steps", "6", "--height", "24", "--width", "16", "--samples", "2", "--batch", "2"]
    for method, kind in (("teacache", TeaCache), ("magcache", MagCache)):
        assert main(["calibrate", *flags, "--method", method]) == 0
        heading, text = capsys.readouterr().out.strip().splitlines()
        assert "6 steps, measured by 12 evaluations" in heading
        assert isinstance(make_accelerator(text.strip()), kind)
    assert main(["calibrate", *flags, "--method", "teacup"]) == 2
    assert not list(Path(folder).glob("*calibration*"))


def test_a_network_without_a_stack_of_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a transformer whose stack of blocks"):
        record_accelerator(Pipeline.from_pretrained("tiny-sd"), "teacache", samples=1, steps=9, progress=False)
    with pytest.raises(ValueError, match="unknown method 'x'; known: teacache, magcache"):
        record_accelerator(Pipeline.from_pretrained("tiny-sd"), "x")
