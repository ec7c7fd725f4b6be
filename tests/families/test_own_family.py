"""A stranger's family: the program of docs/your-family.md runs, and what lacks a member or fails is refused by name."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from sadaflow import Pipeline
from sadaflow.cli import main
from sadaflow.families import FAMILIES, StableDiffusion, register_family
from sadaflow.models import Seam, call_through
from sadaflow.pipeline.inspection import inspect
from sadaflow.sampling.auto_calibration import Effort
from support.pages import lines, program, run_program, stated_lines
from support.stranger import registries_restored, sketch_checkpoint

SUITE = """
model = "{model}"
prompts = ["red apple"]
seeds = [0]
[[case]]
solvers = ["euler"]
steps = [8]
[[method]]
accelerator = "uniform"
"""
TWO_PROCESSES = """
import os, sys
import torch
import torch.distributed as dist

{program}
sys.stdout.flush()
from sadaflow import Parallel

rank = 1 if os.fork() == 0 else 0
dist.init_process_group("gloo", store=dist.FileStore({store!r}, 2), rank=rank, world_size=2)
pipe, call = Pipeline.from_pretrained(folder), dict(steps=4, output="latent", progress=False)
both = pipe("red apple", parallel=Parallel.across(guidance=2, context=1, device="cpu"), **call).latents
dist.barrier()
if rank == 0:
    alone = pipe("red apple", **call).latents
    print(float((both - alone).norm() / alone.norm()))
    shutil.rmtree(folder.parent)
os._exit(0) if rank else os.wait()
"""


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with registries_restored(monkeypatch):
        yield


def test_the_program_of_the_page_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert stated_lines("your-family.md") == lines(program("your-family.md"))
    page = run_program("your-family.md", monkeypatch)
    printed = capsys.readouterr().out
    assert "MixedPipeline" in printed and "loads        yes" in printed and "every 2nd evaluation" in printed
    assert page.out.images[0].size == (32, 32) and page.out.stats.nfe[0] < 12
    pipe, call = Pipeline.from_pretrained(page.folder), {"steps": 3, "output": "latent"}
    both = pipe(["red apple", "pear"], seed=[0, 1], **call).latents
    assert both[:1].allclose(pipe("red apple", seed=0, **call).latents, atol=1e-5)
    with pytest.raises(ValueError, match="Mixed pipelines are not exported"):
        pipe.export(page.folder.parent / "export")
    with pytest.raises(ValueError, match="teacache"):
        pipe("red apple", accelerator="teacache", **call)
    shutil.rmtree(page.folder.parent)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_what_exists_takes_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Streamed, quantized, compiled, with a LoRA, every accelerator from outside, calibration, and the bench."""
    page = run_program("your-family.md", monkeypatch)

    class Prepared(page.Mixer):  # type: ignore[misc, name-defined]
        """The network in the form that can be compiled."""

        def prepare(self, words: Tensor) -> dict[str, Tensor]:
            return {"words": words}

        def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
            return timesteps[..., None] / 1000

        def evaluate(self, x: Tensor, time: Tensor, given: Mapping[str, Tensor], seam: Seam = call_through) -> Tensor:
            read = torch.cat([given["words"], time.to(x.dtype).expand(len(x), 1)], dim=1)
            hidden = self.enter(x) + self.inform(read)[:, :, None, None]
            for block in self.blocks:
                hidden = hidden + block(F.silu(hidden))
            return self.leave(hidden)

    class Tuned(page.Mixed):  # type: ignore[misc, name-defined]
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.adaptable = {"mixer": self.backbone}

    register_family("MixedPipeline", Tuned, replace=True)
    call: dict[str, Any] = {"steps": 14, "seed": [1, 2], "output": "latent", "progress": False}

    def latents(pipe: Pipeline, **how: Any) -> Tensor:
        return pipe(["red apple", "pear"], **call, **how).latents

    pipe = Pipeline.from_pretrained(page.folder)
    plain = latents(pipe)
    monkeypatch.setattr(page, "Mixer", Prepared)
    assert relative(latents(Pipeline.from_pretrained(page.folder)), plain) < 1e-6
    assert relative(latents(Pipeline.from_pretrained(page.folder, offload="stream")), plain) < 1e-6
    assert relative(latents(Pipeline.from_pretrained(page.folder, quantize="int8")), plain) < 0.1
    assert relative(latents(Pipeline.from_pretrained(page.folder).compile(backend="eager")), plain) < 1e-5
    for accelerator in ("sada tokens=false", "auto", "uniform", "seacache", "easycache"):
        assert relative(latents(pipe, accelerator=accelerator), plain) < 0.2, accelerator
    up, down = torch.randn(16, 2), torch.randn(2, 9)
    save_file(
        {"mixer.inform.lora_A.weight": down, "mixer.inform.lora_B.weight": up}, tmp_path / "words.safetensors"
    )
    handle = pipe.load_lora(tmp_path / "words.safetensors", 0.5)
    changed = Pipeline.from_pretrained(page.folder)
    with torch.no_grad():
        changed.family.backbone.inform.weight += 0.5 * up @ down
    assert relative(latents(pipe), latents(changed)) < 1e-5
    pipe.unload_lora(handle)
    found = pipe.calibrate(["a", "b"], solver="euler", steps=12, effort=Effort(2, 2, 4, 2, planned=0))
    assert found.misfit(pipe.solver("euler", 12)) is None
    suite = tmp_path / "own.toml"
    suite.write_text(SUITE.format(model=page.folder), "utf-8")
    assert main(["bench", str(suite), "--out", str(tmp_path / "bench")]) == 0
    assert "uniform" in (tmp_path / "bench/table.md").read_text("utf-8")
    shutil.rmtree(page.folder.parent)


def test_two_processes_share_its_guidance(tmp_path: Path) -> None:
    script = TWO_PROCESSES.format(program=program("your-family.md"), store=str(tmp_path / "store"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout.split()[-1]) < 1e-5


class Bare:
    """Nothing of a family."""


class Half(StableDiffusion):
    """A family that fails while it loads."""

    @classmethod
    def prepare(cls, checkpoint: Any) -> Any:
        return cls.fails(checkpoint)

    @classmethod
    def fails(cls, checkpoint: Any) -> Any:
        raise KeyError("width")


class Late(Half):
    """A family that builds something else."""

    @classmethod
    def fails(cls, checkpoint: Any) -> Any:
        return lambda: Bare()


class NoFunction(Half):
    """A family that prepares nothing."""

    @classmethod
    def fails(cls, checkpoint: Any) -> Any:
        return None


def test_what_is_no_family_is_refused_when_it_is_registered() -> None:
    for wrong, said in (
        (Bare, "the class Bare is not a family, it lacks components, default_guidance, prepare"),
        (3, "is 3, which is not a class"), (lambda: 3, "which is not a class"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            register_family("WrongPipeline", wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'FluxPipeline' is built into sadaflow and cannot be that of Half"):
        register_family("FluxPipeline", Half)
    assert "WrongPipeline" not in FAMILIES


def test_a_family_that_fails_is_refused_by_name(tmp_path: Path) -> None:
    checkpoint = sketch_checkpoint(tmp_path / "sketch")
    with pytest.raises(ValueError, match="names the class StrangerSketchPipeline; supported: .*Flux"):
        Pipeline.from_pretrained(checkpoint)
    for family, said in (
        (Half, "the family Half of .*, which loads StrangerSketchPipeline, failed: KeyError: 'width'"),
        (Late, "built a Bare that lacks options, backbone"),
        (NoFunction, "must return a function from prepare, got None"),
    ):
        register_family("StrangerSketchPipeline", family, replace=True)
        with pytest.raises(ValueError, match=said):
            Pipeline.from_pretrained(checkpoint)
        assert str(inspect(checkpoint).refused).count(family.__name__)


def test_the_class_name_of_an_index_is_all_that_it_needs(tmp_path: Path) -> None:
    checkpoint = sketch_checkpoint(tmp_path / "sketch")
    register_family("StrangerSketchPipeline", StableDiffusion)
    index = json.loads((checkpoint / "model_index.json").read_text())
    assert index["_class_name"] == "StrangerSketchPipeline" and inspect(checkpoint).supported
    out = Pipeline.from_pretrained(checkpoint)("a", steps=2, height=16, width=16, output="latent")
    own = Pipeline.from_pretrained("tiny-sd")("a", steps=2, height=16, width=16, guidance=7.5, output="latent")
    assert out.latents.equal(own.latents)
