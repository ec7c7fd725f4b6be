"""`bench speed`: statistics of interleaved rounds, results, tables, and rejected arguments."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from sadaflow.bench.speed import MEASURES, Speed, run_speed
from sadaflow.bench.speed.loading import READ, can_forget
from sadaflow.bench.speed.rounds import Spread, efficiency, interleaved, ratio
from sadaflow.bench.speed.sides import OURS, THEIRS
from sadaflow.bench.speed.tables import markdown, network_seconds
from sadaflow.cli import main
from support.speed import CPU, FLOAT, ignore


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
