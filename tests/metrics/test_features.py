"""LPIPS, FID and CLIP score with small random networks against their definitions, and in a bench."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from sadaflow import Pipeline
from sadaflow.bench import parse_suite, run_bench
from sadaflow.compare import coarser
from sadaflow.metrics import (
    SampleMetric,
    SetMetric,
    clip_score,
    find_metrics,
    frechet_distance,
    lpips,
    spectrogram_pictures,
    spectrogram_ssim,
)
from support import checkpoints

CPU = torch.device("cpu")


class Network(nn.Module):
    """Two random layers."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 7, 3, stride=2)

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> list[Tensor]:
        first = self.first(2 * pictures - 1).relu()
        return [first, self.second(first).relu()]

    def pooled(self, pictures: Tensor) -> Tensor:
        """(B, 12)"""
        return torch.cat([layer.mean(dim=(2, 3)) for layer in self(pictures)], dim=1)


def pictures(count: int, seed: int) -> Tensor:
    return torch.rand(count, 3, 16, 12, generator=torch.Generator().manual_seed(seed))


def lpips_by_hand(layers: list[np.ndarray], others: list[np.ndarray], weights: list[np.ndarray]) -> float:
    """Equation 1 of arXiv 1801.03924 for one pair, position by position."""
    total = 0.0
    for one, other, weight in zip(layers, others, weights, strict=True):
        _, height, width = one.shape
        at = [(y, x) for y in range(height) for x in range(width)]
        for y, x in at:
            a, b = one[:, y, x], other[:, y, x]
            a = a / np.linalg.norm(a) if a.any() else a
            b = b / np.linalg.norm(b) if b.any() else b
            total += float(np.sum(weight * (a - b) ** 2)) / (height * width)
    return total


@pytest.mark.parametrize("weighted", [True, False])
def test_lpips_is_its_definition(weighted: bool) -> None:
    network, images, reference = Network(), pictures(3, 1), pictures(3, 2)
    generator = torch.Generator().manual_seed(3)
    weights = [torch.rand(count, generator=generator) for count in (5, 7)] if weighted else None
    used = [weight.numpy() for weight in weights] if weights else [np.ones(5), np.ones(7)]
    expected = [
        lpips_by_hand([one[row].double().numpy() for one in network(images)],
                      [one[row].double().numpy() for one in network(reference)], used)
        for row in range(3)
    ]  # fmt: skip
    assert lpips(images, reference, network, weights).tolist() == pytest.approx(expected, rel=1e-6)
    assert lpips(images, images, network, weights).tolist() == [0, 0, 0]


def test_lpips_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\), got \(3, 3, 16, 12\) and \(2, 3, 16, 12\)"):
        lpips(pictures(3, 1), pictures(2, 1), Network())
    with pytest.raises(ValueError, match=r"layers have \[5, 7\] channels, weights \[5, 6\]"):
        lpips(pictures(2, 1), pictures(2, 2), Network(), [torch.ones(5), torch.ones(6)])


def frechet_by_hand(features: np.ndarray, reference: np.ndarray) -> float:
    """Equation 6 of arXiv 1706.08500, with scipy's matrix root."""
    cov, other = np.cov(features, rowvar=False), np.cov(reference, rowvar=False)
    distance = np.sum((features.mean(0) - reference.mean(0)) ** 2)
    return float(distance + np.trace(cov + other - 2 * sqrtm(cov @ other).real))


@pytest.mark.parametrize(("rows", "others", "width"), [(40, 40, 6), (25, 60, 12), (9, 12, 8)])
def test_fid_is_its_closed_form(rows: int, others: int, width: int) -> None:
    rng = np.random.default_rng(rows)
    mixing = rng.normal(size=(2, width, width))
    features = rng.normal(size=(rows, width)) @ mixing[0]
    reference = rng.normal(size=(others, width)) @ mixing[1] + rng.normal(size=width)
    found = frechet_distance(torch.from_numpy(features), torch.from_numpy(reference))
    assert found == pytest.approx(frechet_by_hand(features, reference), rel=1e-8)
    assert frechet_distance(torch.from_numpy(reference), torch.from_numpy(features)) == pytest.approx(found, rel=1e-9)


def test_fid_of_fewer_samples_than_features() -> None:
    """Singular covariances: the trace of the root by the eigenvalues of the product."""
    rng = np.random.default_rng(0)
    features, reference = rng.normal(size=(7, 30)), rng.normal(size=(5, 30)) + 1
    cov, other = np.cov(features, rowvar=False), np.cov(reference, rowvar=False)
    roots = np.sqrt(np.clip(np.linalg.eigvals(cov @ other).real, 0, None)).sum()
    expected = np.sum((features.mean(0) - reference.mean(0)) ** 2) + np.trace(cov + other) - 2 * roots
    found = frechet_distance(torch.from_numpy(features), torch.from_numpy(reference))
    assert found == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(torch.from_numpy(features), torch.from_numpy(features)) == pytest.approx(0, abs=1e-9)
    line, other_line = torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [9.0]])  # sigma^2 = 2 and 8
    assert frechet_distance(line, other_line) == pytest.approx((7 - 1) ** 2 + (8**0.5 - 2**0.5) ** 2)
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        frechet_distance(line[:1], other_line)
    with pytest.raises(ValueError, match=r"got \(2, 1\), \(2, 2\)"):
        frechet_distance(line, torch.zeros(2, 2))


def test_clip_score_is_the_cosine_in_percent() -> None:
    images = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0]])
    texts = torch.tensor([[6.0, 8.0], [0.0, 2.0], [-1.0, 0.0]])
    assert clip_score(images, texts).tolist() == pytest.approx([100, 0, 0])
    assert clip_score(images[:1], texts[1:2]).tolist() == pytest.approx([80])


def test_spectrograms_are_measured_over_the_range_of_the_reference() -> None:
    rng = np.random.default_rng(4)
    reference = rng.normal(-5, 3, (2, 1, 30, 16))
    noisy = reference + rng.normal(0, 0.3, reference.shape)
    low, span = reference.min(axis=(1, 2, 3), keepdims=True), np.ptp(reference, axis=(1, 2, 3), keepdims=True)
    first, second = (noisy - low) / span, (reference - low) / span
    expected = [
        structural_similarity(first[row, 0], second[row, 0], data_range=1, gaussian_weights=True, sigma=1.5,
                              use_sample_covariance=False)
        for row in range(2)
    ]  # fmt: skip
    sounds = torch.from_numpy(noisy), torch.from_numpy(reference)
    assert spectrogram_ssim(*sounds).tolist() == pytest.approx(expected, abs=1e-10)
    shown, plain = spectrogram_pictures(*sounds)
    assert shown.shape == (2, 3, 30, 16) and plain.min() == 0 and plain.max() == 1
    np.testing.assert_allclose(shown[:, 1].numpy(), np.clip(first[:, 0], 0, 1), atol=1e-6)
    assert (shown[:, 0] == shown[:, 2]).all()
    with pytest.raises(ValueError, match="same value everywhere"):
        spectrogram_ssim(torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16))


# --- by name, and in a bench


@pytest.mark.parametrize("name", ["lpips", "fid", "clip"])
def test_published_metrics_name_the_extra_where_it_is_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [one for one in sys.modules if one.split(".")[0] == "torchmetrics"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(ImportError, match=rf"metric '{name}' needs the extra: pip install 'sadaflow\[metrics\]'"):
        find_metrics([name], CPU)


def test_metrics_of_ones_own_are_found_by_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_metric_of_test.py").write_text(
        "from sadaflow.metrics import SampleMetric\n"
        "mean = SampleMetric(lambda pictures, plain, prompts: pictures.mean((1, 2, 3)), False, 'own')\nother = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (metric,) = find_metrics(["own_metric_of_test:mean"], CPU).values()
    assert isinstance(metric, SampleMetric) and metric.source == "own"
    with pytest.raises(ValueError, match="'lpisp'; known: mine, lpips, fid, clip, image-reward, or module"):
        find_metrics(["lpisp"], CPU, {"mine": metric})
    with pytest.raises(ValueError, match="'own_metric_of_test:other' is 3; it must be a SampleMetric or SetMetric"):
        find_metrics(["own_metric_of_test:other"], CPU)
    with pytest.raises(ImportError, match="'no_such_module_here:x' names a module that cannot be imported"):
        find_metrics(["no_such_module_here:x"], CPU)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.stable_diffusion(tmp_path_factory.mktemp("sd") / "tiny", "sd21")


def suite_text(model: Path) -> str:
    return f"""
model = {json.dumps(str(model))}
batch = 2
prompts = ["a", "b", "c"]
seeds = [1]
metrics = ["lpips", "fid"]
[[case]]
solvers = ["euler"]
steps = [6]
[[method]]
accelerator = "sub-grid"
settings = [{{ steps = 2 }}, {{ steps = 4 }}]
"""


def given(network: Network) -> dict[str, Any]:
    return {
        "lpips": SampleMetric(lambda one, other, prompts: lpips(one, other, network), True, "two random layers"),
        "fid": SetMetric(network.pooled, "two random layers"),
    }


def test_a_bench_measures_what_the_suite_names(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sadaflow.bench.command.write_figures", lambda suite, measured, out: None)
    network, suite, out = Network(), parse_suite(suite_text(checkpoint), "m"), tmp_path / "out"
    text = run_bench(suite, out, metrics=given(network))
    pipe = Pipeline.from_pretrained(checkpoint)
    solver = pipe.solver("euler", 6)
    solvers = {6: solver, 4: coarser(solver, 4)}
    made = {steps: pipe(["a", "b", "c"], seed=1, solver=one, output="tensor").images for steps, one in solvers.items()}
    records = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    found = [one["metrics"]["lpips"] for one in records if one["setting"] == "sub-grid steps=4"]
    expected = lpips(made[4], made[6], network).tolist()
    assert found == pytest.approx(expected, rel=1e-3)
    itself = [one["metrics"]["lpips"] for one in records if one["setting"] == "plain"]
    assert itself == pytest.approx([0] * 3, abs=1e-12)
    sets = {line["setting"]: line["value"] for line in map(json.loads, (out / "sets.jsonl").read_text().splitlines())}
    distance = frechet_by_hand(network.pooled(made[4]).double().numpy(), network.pooled(made[6]).double().numpy())
    assert sets["sub-grid steps=4"] == pytest.approx(distance, rel=1e-2, abs=1e-7)
    assert sets["plain"] == pytest.approx(0, abs=1e-9) and len(sets) == 3
    head = [cell.strip() for cell in next(line for line in text.splitlines() if line.startswith("| method")).split("|")]
    assert head[-5:] == ["latent error worst", "lpips mean", "lpips worst", "fid", ""]
    (row,) = [line.split("|") for line in text.splitlines() if "| sub-grid steps=4" in line]
    assert [float(cell) for cell in row[-4:-2]] == pytest.approx([np.mean(found), max(found)], rel=1e-3)
    assert "lpips: two random layers." in text and "<dd>two random layers</dd>" in (out / "report.html").read_text()

    assert len(list((out / "features").iterdir())) == 6  # three settings in two batches

    lines = (out / "samples.jsonl").read_bytes()
    whole = {name: (out / name).read_text() for name in ("samples.jsonl", "sets.jsonl")}
    (out / "samples.jsonl").write_bytes(lines[: len(lines) // 2])  # as if killed there
    (out / "sets.jsonl").write_bytes((out / "sets.jsonl").read_bytes()[:20])
    with pytest.raises(ValueError, match="metric 'fid' is .*others.*another folder"):
        run_bench(suite, out, resume=True, metrics={**given(network), "fid": SetMetric(network.pooled, "others")})
    run_bench(suite, out, resume=True, metrics=given(network))
    for name, text in whole.items():
        before, after = ([json.loads(one) | {"seconds": 0, "digest": ""} for one in some.splitlines()]
                         for some in (text, (out / name).read_text()))  # fmt: skip
        assert after == before


def test_analytic_problems_have_no_pictures_to_look_at() -> None:
    text = suite_text(Path("mixture-vp")).replace('prompts = ["a", "b", "c"]\n', "")
    with pytest.raises(ValueError, match="metrics compare pictures, which analytic problems do not have"):
        parse_suite(text, "m")


def test_a_missing_extra_is_told_before_any_work(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(ImportError, match=r"sadaflow\[metrics\]"):
        run_bench(parse_suite(suite_text(checkpoint), "m"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
