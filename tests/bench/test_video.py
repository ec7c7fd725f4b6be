"""A suite on videos: its size, fidelity per frame and of the worst frame."""

from pathlib import Path

from sadaflow.bench import parse_suite, run_bench
from support.bench import lines
from support.checkpoints_wan import wan

SUITE = """
model = {model!r}
prompts = ["a red apple", "a dog"]
seeds = [0]
batch = 2

[size]
height = 32
width = 48
num_frames = 5

[[case]]
guidance = 2.0
solvers = ["unipc"]
steps = [6]

[[method]]
accelerator = "fewer-steps"
settings = [{{ steps = 3 }}]
"""


def test_videos_are_measured_frame_by_frame(tmp_path: Path) -> None:
    suite = parse_suite(SUITE.format(model=str(wan(tmp_path / "wan"))), "video")
    assert dict(suite.dimensions) == {"height": 32, "width": 48, "num_frames": 5}
    report = run_bench(suite, tmp_path / "out")
    assert "PSNR worst frame" in report
    fewer = [line for line in lines(tmp_path / "out") if line["method"] == "fewer-steps"]
    assert len(fewer) == 2 and all(line["nfe"] == 3 for line in fewer)
    assert all(line["worst_psnr"] < line["psnr"] and line["worst_ssim"] < line["ssim"] for line in fewer)
