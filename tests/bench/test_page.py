"""The HTML report of a bench as text: what it holds, and where its points lie."""

import base64
import io
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sadaflow import Pipeline, Uniform
from sadaflow.bench import parse_suite
from sadaflow.bench.reporting.front_chart import chart, ticks
from sadaflow.bench.reporting.fronts import rows
from sadaflow.bench.reporting.strips import MODES, strip
from sadaflow.bench.suite import Sample
from sadaflow.display.modes import MODE_COLOURS
from support.paged_bench import records


def test_report_holds_what_reproduces_it(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    header = json.loads((folder / "header.json").read_text())
    assert "sadaflow bench paged.toml --out FOLDER --device cpu --dtype float32" in text
    for value in (*header["sessions"][0].values(), header["torch"], *header["models"].values()):
        assert f"<dd>{value}</dd>" in text
    assert "[[case]]\nsolvers = [&#34;euler&#34;" in text and "seeds = [1, 10]" in text
    assert "fewer &lt;steps&gt;" in text and "fewer <steps>" not in text


def test_the_worst_picture_is_that_of_the_worst_sample(folder: Path) -> None:
    model = json.loads((folder / "header.json").read_text())["models"]
    some = [one for one in records(folder) if one["solver"] == "euler" and one["setting"] == "uniform"]
    least = min(some, key=lambda one: one["psnr"])
    text = (folder / "report.html").read_text().split('<section id="case-2">')[0]
    figure = next(part for part in text.split("<figure ") if "<b>uniform</b>" in part)
    assert f"{least['psnr']:.2f} dB at {least['nfe']:g} evaluations" in figure and f"seed {least['seed']}" in figure
    pipe = Pipeline.from_pretrained(next(iter(model)))
    call: dict[str, Any] = {"steps": 8, "solver": "euler", "guidance": 3.0, "seed": least["seed"]}
    pictures = [pipe(least["prompt"], accelerator=one, **call).images[0] for one in (None, Uniform())]
    plain, fast = (np.asarray(picture).astype(int) for picture in pictures)
    found = re.search(r'base64,([^"]+)".*difference x(\d+)', figure, re.DOTALL)
    assert found is not None
    shown, factor = np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1])))), int(found[2])
    width = plain.shape[1]
    np.testing.assert_allclose(shown[:, :width], plain, atol=1)
    np.testing.assert_allclose(shown[:, width : 2 * width], fast, atol=1)
    difference = np.abs(shown[:, :width].astype(int) - shown[:, width : 2 * width])
    assert (shown[:, 2 * width :] == difference * factor).all()
    assert difference.max() * factor <= 255 and (difference.max() * factor >= 128 or factor == 64)


class Tags(HTMLParser):
    """Counts elements, and fails where an end tag does not close the innermost open element."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.counts: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.counts[tag] += 1
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.counts[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()


def test_the_page_is_well_formed_and_holds_a_dot_for_every_setting_twice(folder: Path) -> None:
    tags = Tags()
    tags.feed((folder / "report.html").read_text())
    assert tags.open == [] and tags.counts["svg"] == 2
    measured = {(one["solver"], one["setting"]) for one in records(folder) if one["setting"] != "plain"}
    assert tags.counts["circle"] == 2 * len(measured) and tags.counts["polyline"] == 2 * 2 * 2


def test_dots_of_the_chart_lie_where_the_axes_say(folder: Path) -> None:
    found = [one for one in records(folder) if one["solver"] == "euler"]
    suite = parse_suite((json.loads((folder / "header.json").read_text()))["suite"], "paged")
    drawn = chart(rows(suite, suite.cases[0], found), ["uniform", "fewer <steps>"])
    assert drawn is not None and [line.method for line in drawn.lines] == ["fewer <steps>", "uniform"]
    large = [dot for line in drawn.lines for dot in line.dots if "large" in dot.style]
    positions = {dot.tip.split("\n")[0]: (dot.x, dot.y) for dot in large}
    for setting, (x, y) in positions.items():
        some = [one for one in found if one["setting"] == setting]
        cost, level = (float(np.mean([one[name] for one in some])) for name in ("nfe", "psnr"))
        for at, ticks_drawn, value in ((x, drawn.x_ticks, 100 * cost / 8), (y, drawn.y_ticks, level)):
            places, numbers = zip(*sorted(ticks_drawn), strict=True)
            assert np.interp(at, places, numbers) == pytest.approx(value)
    assert len(positions) == 3 and all(0 < line.name_y < drawn.height for line in drawn.lines)


def test_strip_has_a_pixel_a_step() -> None:
    samples = [Sample("p", seed) for seed in range(3)]
    some = [{"prompt": "p", "seed": 0, "modes": "FFxmF"}, {"prompt": "p", "seed": 2, "modes": "FsxtF"}]
    colours = {mode: MODE_COLOURS[mode] for mode in ("full", "tokens", "stepwise", "multistep", "extrapolated")}
    image = Image.open(io.BytesIO(strip(some, samples, colours)))
    pixels = np.asarray(image.convert("RGBA"))
    assert pixels.shape == (3, 5, 4) and not pixels[1, :, 3].any()
    for row, modes in ((0, "FFxmF"), (2, "FsxtF")):
        expected = [(*bytes.fromhex(MODE_COLOURS[MODES[letter]][1:]), 255) for letter in modes]
        assert [tuple(pixel) for pixel in pixels[row].tolist()] == expected


@pytest.mark.parametrize(("low", "high"), [(18.1, 32.7), (20, 20), (0.3, 0.31), (-3, 79.9), (31.2, 31.9), (0, 1e-4)])
def test_ticks_are_round_and_enclose(low: float, high: float) -> None:
    for most in (4, 7, 8):
        found = ticks(low, high, most)
        assert found[0] <= low + 1e-9 and found[-1] >= high - 1e-9 and 2 <= len(found) <= most + 1
        step = found[1] - found[0]
        assert np.allclose(np.diff(found), step) and float(f"{step:.0e}") == pytest.approx(step)
        if high > low:
            assert found[0] + step > low and found[-1] - step < high
