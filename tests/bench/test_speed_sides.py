"""`bench speed`: Diffusers and sadaflow do the same work on the same random checkpoints."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel

from sadaflow import Pipeline, Uniform
from sadaflow.bench.speed.architectures import architecture
from sadaflow.bench.speed.loading import READ, can_forget, forget
from sadaflow.bench.speed.loading import settings as loading_settings
from sadaflow.bench.speed.random_checkpoint import empty_backbone, random_checkpoint
from sadaflow.bench.speed.sampling import difference, measure_sampling
from sadaflow.bench.speed.sides import OURS, THEIRS, Ours, Theirs, packed, unpacked
from sadaflow.bench.speed.starts import Process
from sadaflow.bench.speed.task import task_for
from sadaflow.loading.embedded import embedded
from support.speed import CPU, FLOAT, ignore

KINDS = ("sd21", "sdxl", "flux")


@pytest.mark.parametrize(
    ("kind", "reference", "parameters"),
    [("sd21", UNet2DConditionModel, 865_910_724), ("sdxl", UNet2DConditionModel, 2_567_463_684),
     ("flux", FluxTransformer2DModel, 11_901_408_320)],
)  # fmt: skip
def test_full_size_architectures_are_the_published_ones(kind: str, reference: Any, parameters: int) -> None:
    """Numbers of parameters as the published weights have them."""
    component, config = next(iter(architecture(f"random-{kind}").components.items()))
    ours = empty_backbone(component, config)
    with torch.device("meta"):
        theirs = reference.from_config(dict(config))
    shapes = [{name: tuple(one.shape) for name, one in net.state_dict().items()} for net in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert sum(one.numel() for one in ours.parameters()) == parameters


@pytest.mark.parametrize("name", ["random-sd3", "random-sd21/3", "random-sd21/0", "random-flux/32", "random-"])
def test_unknown_architectures_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="random"):
        architecture(name)


@pytest.mark.parametrize("kind", KINDS)
def test_both_sides_sample_the_same_from_random_weights(kind: str, cache: Path) -> None:
    folder = random_checkpoint(f"random-{kind}/16", cache, FLOAT)
    ours, theirs = Ours(folder, FLOAT, CPU), Theirs(folder, FLOAT, CPU, "euler")
    task = task_for(ours.pipe, 2, 5, 64, None, "euler")
    found = measure_sampling(ours, theirs, task, {"uniform": Uniform(order=0)}, 1, ignore, latent=True)
    assert 0 < found["difference"] < 1e-4 * found["latents"]
    (numbers,) = found["rounds"]
    assert list(numbers) == [OURS, f"{OURS} uniform", THEIRS]
    for one in numbers.values():
        assert 0 < one["network"] < one["seconds"]
    assert numbers[OURS]["nfe"] == 5
    assert [mode for mode in found["modes"]["uniform"][1] if mode != "full"] == ["extrapolated"]
    assert numbers[f"{OURS} uniform"]["nfe"] == 4


def test_random_checkpoints_are_made_once_and_whole(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = random_checkpoint("random-sd21/16", cache, torch.bfloat16)
    pipe = Pipeline.from_pretrained(folder, dtype=torch.bfloat16)
    assert bool(pipe("x", steps=2, height=64, width=64, output="tensor").images.isfinite().all())
    monkeypatch.setattr("sadaflow.bench.speed.random_checkpoint._SHARD", 300_000)
    sharded = random_checkpoint("random-sd21/16", cache / "sharded", torch.bfloat16)
    assert len(list((sharded / "unet").glob("*-of-*.safetensors"))) > 2
    weights = [Pipeline.from_pretrained(one).backbone.state_dict() for one in (folder, sharded)]
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())

    def fail(*arguments: object) -> None:
        raise OSError("full")

    monkeypatch.setattr("sadaflow.bench.speed.random_checkpoint.save_file", fail)
    assert random_checkpoint("random-sd21/16", cache, torch.bfloat16) == folder
    with pytest.raises(OSError, match="full"):
        random_checkpoint("random-sd21/16", cache / "torn", torch.bfloat16)
    assert list((cache / "torn").iterdir()) == []


def test_packing_is_undone_by_unpacking() -> None:
    latents = torch.randn(2, 3, 4, 6)
    assert packed(latents).shape == (2, 6, 12)
    assert torch.equal(unpacked(packed(latents), (4, 6)), latents)


def test_latents_of_other_shapes_are_no_comparison() -> None:
    assert difference(torch.tensor([1.0, -3.0]), torch.tensor([1.5, -4.0])) == (1.0, 4.0)
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        difference(torch.zeros(2), torch.zeros(3))


@pytest.mark.skipif(not can_forget(), reason="no posix_fadvise")
def test_a_forgotten_file_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(bytes(range(256)) * 17)
    forget(file)
    assert file.read_bytes() == bytes(range(256)) * 17


@pytest.mark.parametrize("model", ["tiny-sd", "tiny-flux"])
def test_loading_is_timed_on_both_sides(model: str) -> None:
    acts = loading_settings(Path(embedded(model)), FLOAT, CPU, alone=False, cold=False)
    assert list(acts) == [READ, OURS, THEIRS]
    assert all(act()["seconds"] > 0 for act in acts.values())


@pytest.mark.slow
def test_each_side_starts_in_a_process_of_its_own(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = random_checkpoint("random-sd21/16", cache, FLOAT)
    task = task_for(Pipeline.from_pretrained(folder), 1, 2, 64, None, None)
    process = Process(folder, task, (64, 64), FLOAT, CPU, latent=True)
    started = process.measure(THEIRS)
    assert started["total"] == started["import"] + started["load"] + started["first"]
    assert 0 < started["torch"] < started["import"]
    held = process.measure(OURS, memory=True)
    # Two states of 4 x 8 x 8 floats at least; and the process holds torch, of hundreds of megabytes.
    assert 2 * 4 * 64 * 4 < held["call"] < 50e6
    assert sys.platform != "linux" or 100e6 < held["process"] < 5e9
    failing = tmp_path / "failing.py"
    failing.write_text("raise OSError('no such device')")
    monkeypatch.setattr("sadaflow.bench.speed.starts._CHILD", failing)
    with pytest.raises(ChildProcessError, match=f"{OURS} in its own process failed: OSError: no such device"):
        process.measure(OURS)
