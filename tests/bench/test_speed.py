"""`bench speed`: what is read off rounds, that both sides do the same work, random checkpoints, replayed decisions."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel

from sadaflow import Pipeline, Uniform, sample
from sadaflow.accelerators import Mode
from sadaflow.accelerators.auto import Auto
from sadaflow.accelerators.registry import ACCELERATORS, make_accelerator
from sadaflow.accelerators.sada import SADA
from sadaflow.bench.speed import MEASURES, Speed, run_speed
from sadaflow.bench.speed.accelerate import read_accelerator
from sadaflow.bench.speed.architectures import architecture
from sadaflow.bench.speed.controller import settings as controlled
from sadaflow.bench.speed.controller import unfit
from sadaflow.bench.speed.forced import Forced, read_modes, replayed
from sadaflow.bench.speed.loading import READ, can_forget, forget
from sadaflow.bench.speed.loading import settings as loading_settings
from sadaflow.bench.speed.random_checkpoint import empty_backbone, random_checkpoint
from sadaflow.bench.speed.rounds import Spread, efficiency, interleaved, ratio
from sadaflow.bench.speed.sampling import difference, measure_sampling
from sadaflow.bench.speed.sides import OURS, THEIRS, Ours, Theirs, packed, unpacked
from sadaflow.bench.speed.starts import Process
from sadaflow.bench.speed.tables import markdown, network_seconds
from sadaflow.bench.speed.task import task_for
from sadaflow.bench.suite.subjects import ANALYTIC
from sadaflow.cli import main
from sadaflow.loading.embedded import embedded
from sadaflow.solvers.exact import GaussianMixture

CPU, FLOAT = torch.device("cpu"), torch.float32
KINDS = ("sd21", "sdxl", "flux")


def ignore(count: int) -> None:
    return None


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("random")


def test_every_round_begins_with_another_setting() -> None:
    order: list[str] = []
    counts = {"a": 0.0, "b": 10.0, "c": 20.0}

    def act(name: str) -> dict[str, float]:
        order.append(name)
        counts[name] += 1
        return {"seconds": counts[name]}

    rounds = interleaved({name: lambda name=name: act(name) for name in "abc"}, 4, ignore)
    assert "".join(order) == "abc" "bca" "cab" "abc"
    assert rounds[1] == {"a": {"seconds": 2.0}, "b": {"seconds": 12.0}, "c": {"seconds": 22.0}}


def test_ratios_are_medians_within_rounds() -> None:
    """Not ratios of the medians, 2 and 1.5 here: the second round was slow for both."""
    rounds = [
        {OURS: {"seconds": 1.0}, THEIRS: {"seconds": 2.0}},
        {OURS: {"seconds": 30.0}, THEIRS: {"seconds": 10.0}},
        {OURS: {"seconds": 3.0}, THEIRS: {"seconds": 1.5}},
    ]
    assert ratio(rounds, OURS, THEIRS, "seconds") == 2.0
    assert Spread.of([one[OURS]["seconds"] for one in rounds]) == Spread(3.0, 1.0, 30.0)


def test_efficiency_is_one_where_every_saved_evaluation_is_saved_time() -> None:
    plain = {"loop": 10.0, "nfe": 50.0}
    assert efficiency([{OURS: plain, "fast": {"loop": 4.0, "nfe": 20.0}}], "fast", OURS) == pytest.approx(1)
    # Half of the evaluations, but 8 of 10 seconds: a speed-up of 1.25 where 2 were possible.
    assert efficiency([{OURS: plain, "fast": {"loop": 8.0, "nfe": 25.0}}], "fast", OURS) == pytest.approx(1.25 / 2)


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


def test_replayed_modes_give_what_the_recorded_run_gave() -> None:
    """Of one that estimates and corrects as `Forced` does: the same decisions are the same sample, to the bit."""
    subject = ANALYTIC["mixture-flow"]()
    solver, noise = subject.solver("euler", 12), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    one = GaussianMixture(torch.ones(1), torch.zeros(1, 192), torch.eye(192)[None] / 4).denoiser(solver)
    recorded = sample(solver, one, noise, Uniform(every=3, order=2, correct=True))
    again = sample(solver, one, noise, Forced([[Mode(mode) for mode in modes] for modes in recorded.stats.modes]))
    assert again.stats.modes == recorded.stats.modes
    assert "extrapolated" in again.stats.modes[0]
    assert torch.equal(again.x, recorded.x)
    assert not torch.equal(again.x, sample(solver, one, noise).x)


def test_samples_are_replayed_each_in_its_own_way() -> None:
    solver = ANALYTIC["mixture-vp"]().solver("dpmpp2m", 6)
    skipping = [Mode.FULL, Mode.FULL, Mode.STEPWISE, Mode.MULTISTEP, Mode.FULL, Mode.FULL]
    modes = [skipping, [Mode.FULL] * 6]
    one = GaussianMixture(torch.ones(1), torch.zeros(1, 192), torch.eye(192)[None] / 4).denoiser(solver)
    noise = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    made = sample(solver, one, noise, Forced(modes))
    assert made.stats.modes == [[mode.value for mode in row] for row in modes]
    torch.testing.assert_close(made.x[1], sample(solver, one, noise).x[1], rtol=0, atol=0)
    with pytest.raises(ValueError, match="2 samples and \\[6\\] steps; 3 samples"):
        Forced(modes).begin(solver, torch.Size((3, 4)), seams=False)
    with pytest.raises(ValueError, match="'tokens' of sample 0"):
        Forced([[Mode.FULL, Mode.FULL, Mode.TOKENS]])
    with pytest.raises(ValueError, match="first two steps"):
        Forced([[Mode.FULL, Mode.REUSED]])


def test_recorded_modes_are_read_from_files(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    full = ["full"] * 3
    recorded = {"a": [[*full, "extrapolated"]], "short": [full], "part": [[*full, "tokens"]]}
    file.write_text(json.dumps({"modes": recorded}))
    assert set(read_modes(file)) == {"a", "short", "part"}
    assert {name: one.modes for name, one in replayed(file, 4).items()} == {"a": recorded["a"]}
    with pytest.raises(ValueError, match="no modes of 5 steps"):
        replayed(file, 5)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_modes(tmp_path / "nowhere.json")
    for content in ({}, {"modes": {}}, {"modes": {"a": ["full"]}}, {"modes": {"a": [["half"]]}}, {"modes": {"a": []}}):
        file.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"speed\.json"):
            read_modes(file)


def test_accelerators_are_named_with_their_arguments() -> None:
    assert read_accelerator("auto") == Auto()
    assert read_accelerator("sada tokens=false estimator=ab3") == SADA(tokens=False, estimator="ab3")
    for wrong, said in (
        ("sadda x=1", "sadda"),
        ("auto tolerence=1", "tolerence"),
        ("auto tolerance", "argument=value"),
        ("auto tolerance=-1", "tolerance"),
        ('auto tolerance="a"', "auto tolerance"),
    ):
        with pytest.raises(ValueError, match=said):
            read_accelerator(wrong)


def test_what_works_inside_the_network_has_no_controller_to_measure() -> None:
    accelerators = {name: make_accelerator(name) for name in (*ACCELERATORS, "uniform+guidance")}
    found = unfit(accelerators, 20)
    outside = {"adaptive-diffusion", "auto", "easycache", "sada", "sada-released", "seacache", "uniform"}
    assert outside == set(accelerators) - set(found)
    assert "branches" in found["guidance"] and "at least 13" in unfit(accelerators, 12)["sada"]
    acts = controlled({name: accelerators[name] for name in outside}, 20, CPU)
    for one in acts.values():
        assert set(one()) == {"controller", "solver", "nfe"}
    assert acts["plain"]()["nfe"] == 20 and acts["uniform"]()["nfe"] < 15


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


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A run of all that needs no other process, without Diffusers."""
    out = tmp_path_factory.mktemp("speed") / "out"
    flags = ["--alone", "--steps", "8", "--rounds", "2", "--threads", "1", "--dtype", "float32"]
    flags += ["--model", "tiny-flux", "--cache", str(cache), "--network-seconds", "0.5"]
    flags += ["--accelerate", "auto", "--accelerate", "uniform every=3", "--device", "cpu"]
    for measure in set(MEASURES) - {"starts", "memory"}:
        flags += ["--measure", measure]
    assert main(["bench", "speed", "--out", str(out), *flags]) == 0
    return out


def test_results_and_tables_are_written(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads((measured / "speed.json").read_text())
    (pictures,) = found["sampling"]
    assert pictures["latent"] == [1, 4, 16, 16] and pictures["pixels"] == [64, 64] and pictures["difference"] is None
    assert [list(one) for one in pictures["rounds"]] == [[OURS, f"{OURS} auto", f"{OURS} uniform every=3"]] * 2
    assert {len(samples[0]) for samples in found["modes"].values()} == {8} and len(found["modes"]) == 2
    assert [record["cold"] for record in found["loading"]] == [False, True][: 1 + can_forget()]
    assert list(found["controller"][0]["rounds"][0]) == ["plain", "auto", "uniform every=3"]
    assert found["environment"]["diffusers"] is None and found["environment"]["dtype"] == "float32"
    text = (measured / "speed.md").read_text()
    assert text == markdown(found)
    assert "| | sadaflow |\n" in text and "`uniform every=3`" in text and "share of an evaluation (500.0 ms)" in text


def test_results_are_kept(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (measured / "speed.json").read_bytes()
    assert main(["bench", "speed", "--out", str(measured), "--alone"]) == 2
    assert "speed.json exists; name another folder" in capsys.readouterr().err
    assert (measured / "speed.json").read_bytes() == before


def test_a_run_is_replayed_on_another_network(measured: Path, tmp_path: Path, cache: Path) -> None:
    speed = Speed(
        ("random-sd21/16",), ("sampling",), steps=8, size=64, rounds=1, latent=True, alone=True,
        replay=measured / "speed.json",
    )  # fmt: skip
    run_speed(speed, tmp_path / "again", cache, device=CPU, dtype=FLOAT)
    recorded, again = (json.loads((one / "speed.json").read_text()) for one in (measured, tmp_path / "again"))
    assert list(recorded["modes"].values()) == list(again["modes"].values())
    assert [name for name in again["modes"] if name.startswith("replayed uniform every=3 on tiny-flux")]


def record(**changes: Any) -> dict[str, Any]:
    rounds = [
        {OURS: {"seconds": 4.0, "network": 3.0, "loop": 3.5, "nfe": 10.0},
         f"{OURS} fast": {"seconds": 2.5, "network": 1.5, "loop": 2.0, "nfe": 5.0},
         THEIRS: {"seconds": 5.0, "network": 4.0}},
    ]  # fmt: skip
    about = {"model": "m", "batch": 2, "pixels": [8, 8], "latent": [1, 4, 128, 128], "steps": 10, "solver": "euler"}
    about |= {"guidance": 3.0, "decoded": True, "compiled": False, "mode": None, "difference": 1e-5, "latents": 3.0}
    return {**about, "rounds": rounds, **changes}


def results(**kinds: Any) -> dict[str, Any]:
    about = {"sadaflow": "0", "torch": "2", "diffusers": "1", "device": "cpu", "dtype": "float32", "threads": 1}
    about |= {"hardware": "h", "python": "3", "platform": "p", "source": "s"}
    return {"environment": about, "settings": {"network_seconds": None}, **{name: [] for name in MEASURES}, **kinds}


def test_tables_say_what_was_measured() -> None:
    starts = [{side: {"torch": 1.0, "import": 2.0, "load": 3.0, "first": 1.0, "total": 6.0} for side in (OURS, THEIRS)}]
    loaded = {"model": "m", "bytes": 10**9, "cold": False}
    loaded["rounds"] = [{READ: {"seconds": 0.5}, OURS: {"seconds": 0.6}, THEIRS: {"seconds": 1.0}}]
    memory = {side: {"process": 3e8, "call": 5e6 + 1e6 * (side == THEIRS)} for side in (OURS, THEIRS)}
    outside: dict[str, Any] = {"steps": 10, "unfit": {"deepcache": "it is"}}
    outside["rounds"] = [{"plain": {"controller": 0.001, "solver": 0.002, "nfe": 10.0}}]
    everything = results(
        sampling=[record()], starts=[record(rounds=starts)], memory=[{**record(), **memory}],
        loading=[loaded], controller=[outside],
    )  # fmt: skip
    text = markdown(everything)
    for line in (
        "## m, 8x8, 10 steps of euler, guidance 3: 2 at a time, 1 rounds",
        "Largest difference of the final latents 1e-05, of values up to 3.",
        "| seconds per image | 2.000 | 2.500 | 0.800 |",
        "| ms per evaluation of the network (10 per image) | 300.000 | 400.000 | 0.750 |",
        "| ms outside the network per image | 500.000 | 500.000 | 1.000 |",
        "| `fast` | 5.0 | 2.000 | 1.75x | 0.875 |",
        "| in all | 6.000 | 6.000 | 1.000 |",
        "| MB of tensors beyond the weights | 5.0 | 6.0 | 0.833 |",
        "| sadaflow | 0.600 | 1.20 |",
        "| plain | 10.0 | 1.000 | 2.000 | 1.00% |",
        "`deepcache` is left out: it is.",
    ):
        assert line in text.splitlines(), line
    assert network_seconds(everything) == pytest.approx(0.3)
    everything["sampling"][0]["latent"] = [1, 4, 64, 64]
    assert network_seconds(everything) is None


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--model", "random-sd4"], "random-sd4"),
        (["--model", "tiny-sdd"], "tiny-sdd"),
        (["--measure", "speed"], "sampling"),
        (["--rounds", "0"], "rounds must be at least 1"),
        (["--batch", "0"], "batches must be at least 1"),
        (["--threads", "0"], "--threads must be at least 1"),
        (["--network-seconds", "0"], "network_seconds"),
        (["--solver", "unipc"], "dpmpp2m"),
        (["--compile", "--compile-mode", "fast"], "reduce-overhead"),
        (["--compile-mode", "default"], "needs compiling; add --compile"),
        (["--accelerate", "sadda"], "sadda"),
        (["--replay", "nowhere.json"], "nowhere.json"),
        (["--size", "62", "--measure", "sampling"], "multiple of the 4"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "speed", "--out", str(tmp_path / "out"), "--device", "cpu", *flags]) == 2
    assert said in capsys.readouterr().err


def test_accelerators_that_do_not_fit_are_refused_before_work(tmp_path: Path) -> None:
    speed = Speed(("tiny-sd",), ("sampling",), steps=4, accelerators=("sada",), alone=True)
    with pytest.raises(ValueError, match="'sada' on tiny-sd.*at least 13"):
        run_speed(speed, tmp_path / "out", tmp_path, device=CPU, dtype=FLOAT)


def test_without_diffusers_the_error_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert main(["bench", "speed", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "pip install" in said and "--alone" in said
    assert not (tmp_path / "out").exists()


def test_bench_speed_is_no_suite(capsys: pytest.CaptureFixture[str]) -> None:
    """The two words are one command; `bench` with another word takes it for a suite's name."""
    assert main(["bench", "speed"]) == 2
    assert "--out" in capsys.readouterr().err
    assert main(["bench", "sped", "--out", "x"]) == 2
    assert "sped" in capsys.readouterr().err
