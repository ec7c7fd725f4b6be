"""Several processes for one image: the result of one process, bit-equal in all of them, and rejected settings."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sadaflow import Parallel, Pipeline
from sadaflow.models import FluxTransformer
from sadaflow.parallel.context import Shares
from support.networks import small_flux, small_unet
from support.parallel_child import ACCELERATORS, WORK, pictures, run

PATIENCE = 600  # seconds; they take some ten, but each exchange waits for a turn on a busy processor
SETUPS = list(WORK)

Made = dict[tuple[int, int], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What each process of each set-up (guidance, context) made, by rank."""
    folder = tmp_path_factory.mktemp("parallel")
    command = [sys.executable, "-m", "support.parallel_child", str(folder)]
    tests = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=tests)
    assert done.returncode == 0, done.stderr
    files = {setup: sorted((folder / "x".join(map(str, setup))).glob("*.pt")) for setup in SETUPS}
    return {setup: [torch.load(file, weights_only=True) for file in ranks] for setup, ranks in files.items()}


def test_all_processes_make_the_same_bits(made: Made) -> None:
    for ranks in made.values():
        sampled = {name: one for name, one in ranks[0].items() if isinstance(one, dict)}
        assert sampled
        for name, one in sampled.items():
            for rank in ranks[1:]:
                assert torch.equal(rank[name]["x"], one["x"]), name
                assert rank[name]["modes"] == one["modes"], name


@pytest.mark.parametrize("setup", SETUPS)
def test_they_make_what_one_process_makes(made: Made, setup: tuple[int, int]) -> None:
    """In float64, where the order of additions is all that may differ."""
    nets = {"flux": (small_flux(single=2), (10, 6)), "unet": (small_unet(), (8, 6))}
    compared, modes = 0, set()
    for name, ours in made[setup][0].items():
        kind, _, accelerator = name.partition(" ")
        if kind not in nets:
            continue
        net, size = nets[kind]
        alone = run(net, ACCELERATORS[accelerator], size=size)
        assert float((ours["x"] - alone["x"]).abs().max()) < 1e-12, name
        assert ours["modes"] == alone["modes"], name
        if "cached" not in {mode for line in alone["modes"] for mode in line}:
            assert ours["nfe"] == alone["nfe"], name
        compared, modes = compared + 1, modes | {mode for line in alone["modes"] for mode in line}
    assert compared == {(2, 1): 11, (1, 2): 8, (2, 2): 2, (1, 4): 2}[setup]
    several = {"stepwise", "extrapolated", "cached", "conditional"} if setup in ((2, 1), (1, 2)) else set()
    assert {"full", "tokens"} | several <= modes


def test_without_guidance(made: Made) -> None:
    alone = run(small_flux(single=2), None, guided=False, size=(8, 6))
    assert float((made[1, 2][0]["alone"]["x"] - alone["x"]).abs().max()) < 1e-12


def test_each_process_computes_its_share(made: Made) -> None:
    """15 image tokens are 8 and 7, 5 tokens of text are 3 and 2."""
    for rank, (image, joint) in enumerate([(8, 11), (7, 9)]):
        shares = made[1, 2][rank]["shares"]
        assert [count for kind, count in shares if kind == "trunk"] == [image]
        assert [count for kind, count in shares if kind == "block"] == [joint] * 4
        assert [count for kind, count in shares if kind == "attention"] == [joint] * 4


@pytest.mark.parametrize(("setup", "model"), [((2, 1), "tiny-sd"), ((1, 2), "tiny-flux")])
def test_pictures_of_a_checkpoint(made: Made, setup: tuple[int, int], model: str) -> None:
    """In float32, where kernels add in another order for another number of rows, and guidance of 5 and 14 steps amplify
    the last bits."""
    ours, alone = made[setup][0][model], pictures(Pipeline.from_pretrained(model), None)
    assert float((ours["x"] - alone["x"]).abs().max() / alone["x"].abs().max()) < 1e-5
    assert (ours["modes"], ours["nfe"]) == (alone["modes"], alone["nfe"])


@pytest.mark.parametrize(
    ("setup", "name", "words"),
    [
        ((2, 1), "teacache", "decides inside the network"),
        ((2, 1), "first-block", "decides inside the network"),
        ((2, 1), "uniform+first-block", "decides inside the network"),
        ((2, 1), "alone", "no negative"),
        ((2, 1), "seed", "called differently: noise must be the same"),
        ((2, 1), "prompt", "called differently: prompt, steps, solver must be the same"),
        ((2, 1), "world", "guidance=2 x context=2 processes do not fit the 2 of the group"),
        ((1, 2), "unet", "this network has no trunk"),
        ((1, 2), "few", "1 image tokens cannot be divided among 2 processes"),
    ],
)
def test_every_process_refuses(made: Made, setup: tuple[int, int], name: str, words: str) -> None:
    for rank in made[setup]:
        assert words in rank[f"refused {name}"]


def test_without_a_process_group() -> None:
    with pytest.raises(ValueError, match="no process group is initialised"):
        Parallel.across(context=2)
    with pytest.raises(ValueError, match="guidance=0"):
        Parallel.across(guidance=0)


def test_a_trunk_that_does_not_name_its_text() -> None:
    class Second:
        rank, size = 1, 2

    axis: Any = Second()
    with pytest.raises(ValueError, match="9 tokens, where this process has 0 of text and 7 of the image"):
        Shares(axis, 0, 15).whole(torch.zeros(1, 9, 4))


def test_conditioning_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[str] = []
    prepare = FluxTransformer.prepare

    def counted(net: FluxTransformer, **given: Any) -> Any:
        prepared.append("prepare")
        return prepare(net, **given)

    class One:
        mesh_dim_names = ("guidance",)

        def size(self, dimension: int) -> int:
            return 1

    mesh: Any = One()
    monkeypatch.setattr(FluxTransformer, "prepare", counted)
    together = run(small_flux(single=2), None, Parallel(mesh))
    assert prepared == ["prepare"]
    assert torch.equal(together["x"], run(small_flux(single=2), None)["x"])


def test_dimensions_of_a_mesh() -> None:
    class Mesh:
        mesh_dim_names: tuple[str, ...] = ("data", "context")

        def size(self, dimension: int) -> int:
            return 3

    mesh: Any = Mesh()
    with pytest.raises(ValueError, match="'data'"):
        Parallel(mesh)
    mesh.mesh_dim_names = ("guidance",)
    with pytest.raises(ValueError, match="guidance=3"):
        Parallel(mesh)
