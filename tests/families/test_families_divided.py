"""Context parallelism of the transformer families: two processes, here threads, compute what one computes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sadaflow import Pipeline
from sadaflow.families import Request
from support.checkpoints_chroma import chroma
from support.checkpoints_flux2 import flux2_klein
from support.checkpoints_sd3 import sd3
from support.checkpoints_z_image import z_image
from support.divided import in_two_processes
from support.flux import relative

MAKERS: dict[str, Callable[[Path], object]] = {
    "chroma": chroma,
    "flux2": flux2_klein,
    "sd3": lambda folder: sd3(folder, "3.5 medium"),
    "z_image": z_image,
}
PROMPTS = ["a red apple", "a grinning face on a very long wooden table"]


@pytest.mark.parametrize("family", MAKERS)
def test_two_processes_compute_what_one_computes(family: str, tmp_path: Path) -> None:
    MAKERS[family](tmp_path / "made")
    pipe = Pipeline.from_pretrained(tmp_path / "made")
    network = pipe.backbone
    request = Request(prompt=PROMPTS, guidance=1.0, max_sequence_length=96)
    given = network.prepare(**pipe.family.condition(request).conditional)
    assert ("mask" in given) == (family in ("chroma", "z_image"))
    time = network.prepare_times(torch.tensor([[500.0]]), given)[0]
    x = torch.randn(2, pipe.family.latent_channels, 12, 10, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = network.evaluate(x, time, given)
    divided = in_two_processes(lambda seam: network.evaluate(x, time, given, seam))
    assert relative(divided, plain) < 1e-5
