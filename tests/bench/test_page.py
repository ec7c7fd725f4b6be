"""The HTML report of a bench, as text and in headless Chromium."""

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sadaflow import Pipeline, Uniform
from sadaflow.bench import parse_suite, run_bench
from sadaflow.bench.reporting.front_chart import chart, ticks
from sadaflow.bench.reporting.fronts import rows
from sadaflow.bench.reporting.strips import MODES, strip
from sadaflow.bench.suite import Sample
from sadaflow.display.modes import MODE_COLOURS
from support import checkpoints
from support.browser import chromium

PROMPTS = ["a", '</script><img src="http://example.invalid/x"> & "b"']


def suite_text(checkpoint: Path) -> str:
    return f"""
model = {json.dumps(str(checkpoint))}
guidance = 3.0
batch = 2
prompts = {json.dumps(PROMPTS)}
seeds = [1, 10]
[[case]]
solvers = ["euler"]
steps = [8]
[[case]]
solvers = ["dpmpp2m"]
steps = [6]
[[method]]
accelerator = "uniform"
settings = [{{}}, {{ every = 3 }}]
[[method]]
name = "fewer <steps>"
accelerator = "fewer-steps"
settings = [{{ steps = 4 }}]
[timing]
settings = ["uniform"]
steps = [8]
rounds = 2
samples = 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished bench on a tiny random checkpoint."""
    checkpoint = checkpoints.stable_diffusion(tmp_path_factory.mktemp("sd") / "tiny", "sd21")
    out, suite = tmp_path_factory.mktemp("bench") / "out", parse_suite(suite_text(checkpoint), "paged")
    run_bench(suite, out)
    run_bench(suite, out, resume=True, timing=True)
    return out


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Any, folder: Path) -> Iterator[Any]:
    """The open report. Whatever it asks the network for, and whatever goes wrong in it, fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    file = (folder / "report.html").as_uri()
    page.on("request", lambda asked: asked.url == file or asked.url.startswith("data:") or wrong.append(asked.url))
    page.goto(file)
    yield page
    context.close()
    assert wrong == []


def test_pictures_of_the_report_load(page: Any, folder: Path) -> None:
    sizes = page.eval_on_selector_all("img", "all => all.map(one => [one.className, one.naturalWidth, one.complete])")
    settings = {(one["solver"], one["setting"]) for one in records(folder) if one["setting"] != "plain"}
    skipping = {name for name in settings if name[1].startswith("uniform")}
    assert len([one for one in sizes if one[0] == "strip"]) == len(skipping) == 4
    assert len([one for one in sizes if one[0].startswith("worst")]) == len(settings) == 6
    assert all(width > 0 and complete for _, width, complete in sizes)
    assert page.locator("svg.chart").count() == 2 and page.title() == "paged - sadaflow bench"


def cells(page: Any, column: int) -> list[str]:
    return page.locator("table").first.locator(f"tbody tr td:nth-child({column + 1})").all_inner_texts()


def test_tables_sort_by_every_column(page: Any, folder: Path) -> None:
    head = page.locator("table").first.locator("th")
    names = [name.split("\n")[0] for name in head.all_inner_texts()]
    assert names[:4] == ["method", "setting", "cost", "PSNR mean"] and len(names) == 9
    for column, name in enumerate(names):
        before = cells(page, column)
        numbers = [float(cell) for cell in before if cell != "-"] if column > 1 else []
        rest = [cell for cell in before if cell == "-"]
        for descending in (False, True):
            head.nth(column).locator("button").click()
            assert head.nth(column).get_attribute("aria-sort") == ("descending" if descending else "ascending")
            after = cells(page, column)
            if column < 2:
                assert after == sorted(before, reverse=descending), name
            else:
                assert [float(cell) for cell in after[: len(numbers)]] == sorted(numbers, reverse=descending), name
                assert after[len(numbers) :] == rest
    costs: dict[str, list[float]] = {}
    for record in records(folder):
        if record["solver"] == "euler":
            costs.setdefault(record["setting"], []).append(record["nfe"])
    head.nth(2).locator("button").click()
    expected = sorted(float(np.mean(some)) for some in costs.values())
    assert [float(cell) for cell in cells(page, 2)] == pytest.approx(expected, abs=0.05)
    assert dict(zip(cells(page, 1), cells(page, 2), strict=True)) == {
        setting: f"{np.mean(some):.1f}" for setting, some in costs.items()
    }  # rows move whole


def test_pointer_tells_of_steps_and_points(page: Any, folder: Path) -> None:
    tip, shown = page.locator("#tip"), page.locator("img.strip").first
    assert tip.is_hidden()
    modes = {(one["prompt"], one["seed"]): one["modes"] for one in records(folder)
             if one["solver"] == "euler" and one["setting"] == "uniform"}  # fmt: skip
    order = [(prompt, seed) for prompt in PROMPTS for seed in (1, 10)]
    box = shown.bounding_box()
    for step, row in ((0, 0), (4, 1), (7, 3), (3, 2)):
        position = {"x": box["width"] * (step + 0.5) / 8, "y": box["height"] * (row + 0.5) / 4}
        shown.hover(position=position)
        prompt, seed = order[row]
        mode = MODES[modes[prompt, seed][step]]
        first, second = tip.inner_text().split("\n")
        assert first.startswith(f"step {step}: {mode}: ") and second == f"{prompt}, seed {seed}"
    page.locator("circle.large").first.hover()
    cost, fidelity = r"[\d.]+ evaluations, \d+ % of the plain run's", r"mean [\d.]+ dB, worst [\d.]+ dB"
    assert re.match(rf"\S.*\n{cost}\n{fidelity}", tip.inner_text())
    assert page.locator("svg.dimmed .method.lit").count() == 1
    page.locator("h1").hover()
    assert tip.is_hidden() and page.locator("svg.dimmed").count() == 0


@pytest.mark.parametrize("key", ["Enter", "click"])
def test_a_point_opens_the_pictures_of_its_setting(page: Any, key: str) -> None:
    """Its modes and its worst sample; a baseline of fewer steps has no modes to show."""
    viewer = page.locator("#viewer")
    assert not viewer.is_visible()
    for setting, pictures in (("uniform every=3", 2), ("fewer-steps steps=4", 1)):
        point = page.locator(f"circle.large[data-setting='{setting}']").first
        if key == "click":
            point.click()
        else:
            point.focus()
            page.keyboard.press(key)
        assert viewer.is_visible() and page.inner_text("#viewed") == setting
        numbers = page.inner_text("#numbers")
        assert re.fullmatch(r"[\d.]+ evaluations, .*; mean [\d.]+ dB, worst [\d.]+ dB; SSIM .*", numbers)
        assert page.locator("#shown img").count() == pictures
        assert page.locator("#shown figcaption").first.inner_text().startswith(setting)
        page.keyboard.press("Escape")
        assert not viewer.is_visible()


def test_the_menu_closes_and_opens_parts(page: Any) -> None:
    titles = page.locator("nav a").all_inner_texts()
    assert titles[-1] == "Reproduce" and len(titles) == page.locator("details.part").count() == 3
    page.click("#fold")
    assert not page.locator("svg.chart").first.is_visible() and not page.locator("table").first.is_visible()
    page.locator("nav a").nth(1).click()
    assert [one.is_visible() for one in page.locator("svg.chart").all()] == [False, True]
    page.click("#unfold")
    assert all(one.is_visible() for one in page.locator("table").all())


def test_the_report_fits_a_phone(browser: Any, folder: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto((folder / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    page.close()


def test_report_is_readable_by_night(browser: Any, folder: Path) -> None:
    shades = []
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto((folder / "report.html").as_uri())
        script = "(({ backgroundColor, color }) => [backgroundColor, color])(getComputedStyle(document.body))"
        shades.append(page.evaluate(script))
        page.close()
    light, dark = ([sum(map(int, re.findall(r"\d+", shade)[:3])) for shade in pair] for pair in shades)
    assert light[0] > 700 > 150 > light[1] and dark[0] < 150 < 600 < dark[1]


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
    figure = next(part for part in text.split("<figure>") if "<b>uniform</b>" in part)
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
