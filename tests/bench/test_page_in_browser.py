"""The HTML report of a bench in headless Chromium."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sadaflow.bench.reporting.strips import MODES
from support.browser import chromium
from support.paged_bench import PROMPTS, records


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
    assert names[:4] == ["method", "setting", "cost", "PSNR mean"] and len(names) == 10
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
