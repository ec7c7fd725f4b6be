"""The page to explore runs with: its data, and what it does in a browser."""

import base64
import io
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sadaflow.compare import Request, compare
from sadaflow.compare.explored import explore_comparison
from sadaflow.display.methods import METHOD_SHADES
from sadaflow.explore import ExploredRun, explore_page
from support.browser import chromium
from support.stand_in_pipeline import StandIn

STEPS = 12


def run(label: str, shade: float, **changed: Any) -> ExploredRun:
    """A run whose picture at step i has the grey value shade + i / 100."""
    pictures = (shade + torch.arange(STEPS) / 100).view(-1, 1, 1, 1).expand(-1, 3, 6, 8)
    modes = ["full", "stepwise"] * (STEPS // 2)
    values = [10.0**-i for i in range(STEPS - 1)] + [math.nan]
    tokens = [torch.arange(4).view(2, 2) > 0, *[None] * (STEPS - 1)]
    made: dict[str, Any] = {"pictures": pictures, "thresholds": {"error": 1e-3}, "tokens": tokens}
    return ExploredRun(label, modes, {"error": values}, **(made | {"facts": {"t": list(range(STEPS))}} | changed))


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found is not None
    return json.loads(found[1])


def test_the_page_holds_every_number_and_picture() -> None:
    group = data_of(explore_page("t", {"a": [run("plain", 0.2), run("auto", 0.5)]}))["groups"][0]
    assert [one["label"] for one in group["runs"]] == ["plain", "auto"]
    first = group["runs"][0]
    assert first["modes"] == ["full", "stepwise"] * 6 and first["curves"]["error"][-1] is None
    assert first["curves"]["error"][3] == 1e-3 and first["tokens"][:2] == [[[0, 1], [1, 1]], None]
    sheet = group["runs"][1]["sheet"]
    content = base64.b64decode(sheet["png"].removeprefix("data:image/png;base64,"))
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    for step in range(STEPS):
        row, column = divmod(step, sheet["columns"])
        tile = pixels[row * sheet["height"] :, column * sheet["width"] :][: sheet["height"], : sheet["width"]]
        assert np.unique(tile).tolist() == [round(255 * (0.5 + step / 100))]


def test_a_method_has_the_colour_of_every_figure() -> None:
    page = explore_page("t", {"a": [run("plain", 0.2), run("auto budget=9", 0.5)], "b": [run("sada", 0.3)]})
    assert data_of(page)["labels"] == ["plain", "auto budget=9", "sada"]
    for version in ("light", "dark"):
        shades = [getattr(METHOD_SHADES[name], version) for name in ("plain", "auto", "sada")]
        assert ";".join(f"--r{index}:{shade}" for index, shade in enumerate(shades)) in page


def test_large_pictures_are_shrunk_and_keep_their_shape() -> None:
    sheet = run("large", 0.0, pictures=torch.rand(STEPS, 3, 200, 400)).data()["sheet"]
    assert (sheet["width"], sheet["height"]) == (192, 96)


def test_text_cannot_end_the_script() -> None:
    name = "</script><script>alert(1)</script>{{script}}"
    page = explore_page(name, {name: [run(name, 0.1)]})
    assert data_of(page)["groups"][0]["name"] == name and "<script>alert" not in page


def test_runs_of_other_lengths_are_refused() -> None:
    short = ExploredRun("short", ["full"], {})
    with pytest.raises(ValueError, match="plain: 12, short: 1"):
        explore_page("t", {"a": [run("plain", 0.1), short]})
    with pytest.raises(ValueError, match="no run"):
        explore_page("t", {})


def test_a_comparison_is_explored_beside_its_plain_run() -> None:
    result = compare(StandIn(), ["a", "b"], Request(steps=20), trace=True)  # type: ignore[arg-type]
    groups = data_of(explore_comparison(result, "t"))["groups"]
    assert [group["name"] for group in groups] == ["1: a", "2: b"]
    plain, fast = groups[0]["runs"]
    assert "relative error of x0" not in plain["curves"] and plain["sheet"] is None
    skipped = [mode != "full" for mode in fast["modes"]]
    assert fast["curves"]["relative error of x0"] == [pytest.approx(0.1 * one, abs=1e-6) for one in skipped]
    assert fast["thresholds"] == {"stability criterion": 0.0}
    with pytest.raises(ValueError, match="trace=True"):
        explore_comparison(compare(StandIn(), ["a"], Request(steps=20)), "t")  # type: ignore[arg-type]


def test_a_trace_writes_its_page_once(tmp_path: Path) -> None:
    trace, file = StandIn.trace(["full", "stepwise", "full"]), tmp_path / "trace.html"
    trace.save(file)
    assert data_of(file.read_text())["groups"][0]["runs"][0]["modes"] == ["full", "stepwise", "full"]
    with pytest.raises(FileExistsError):
        trace.save(file)
    with pytest.raises(ValueError, match=".html"):
        trace.save(tmp_path / "trace.json")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(params=["light", "dark", "phone"])
def opened(browser: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The open page. Whatever it asks the network for, and whatever goes wrong in it, fails the test."""
    runs = {"first": [run("plain", 0.2), run("auto", 0.5)], "second": [run("alone", 0.3, tokens=[None] * STEPS)]}
    file = tmp_path / "page.html"
    file.write_text(explore_page("A page", runs))
    scheme, width = ("dark" if request.param == "dark" else "light"), (390 if request.param == "phone" else 1100)
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800}, offline=True)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(file.as_uri())
    page.wait_for_selector("body[data-ready='0']")
    yield page
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    context.close()
    assert wrong == []


def grey(page: Any, canvas: int) -> int:
    script = "n => document.querySelectorAll('canvas')[n].getContext('2d').getImageData(7, 5, 1, 1).data[0]"
    return int(page.evaluate(script, canvas))


def test_keys_move_through_the_steps(opened: Any) -> None:
    for key, step in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", STEPS - 1), ("Home", 0)):
        opened.keyboard.press(key)
        assert opened.inner_text("#count") == f"step {step} of {STEPS - 1}"
    opened.focus("#step")
    opened.keyboard.press("ArrowRight")
    assert opened.inner_text("#count") == f"step 1 of {STEPS - 1}"
    assert [grey(opened, 0), grey(opened, 1)] == [round(255 * 0.21), round(255 * 0.51)]
    assert opened.locator("figcaption").nth(5).inner_text() == "amplified 2 times"  # 76 of 255 between the runs
    assert opened.locator("#facts tr").first.inner_text().split() == ["mode", "stepwise", "stepwise"]


def test_a_click_goes_to_the_step_under_the_pointer(opened: Any) -> None:
    strip = opened.locator(".strip svg").first
    box = strip.bounding_box()
    strip.click(position={"x": box["width"] * 7.5 / STEPS, "y": box["height"] / 2})
    assert opened.inner_text("#count") == f"step 7 of {STEPS - 1}"


def test_another_group_is_shown(opened: Any) -> None:
    opened.select_option("#group", "1")
    opened.wait_for_selector("body[data-ready='1']")
    assert opened.locator("canvas").count() == 1 and grey(opened, 0) == round(255 * 0.3)


def test_play_runs_to_the_end_and_stops(opened: Any) -> None:
    opened.keyboard.press("End")
    opened.keyboard.press("ArrowLeft")
    opened.click("#play")
    opened.wait_for_selector("#play[aria-pressed='false']")
    assert opened.inner_text("#count") == f"step {STEPS - 1} of {STEPS - 1}"
