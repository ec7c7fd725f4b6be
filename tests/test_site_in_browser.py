"""Every page of the site in headless Chromium, on a desktop and a phone, light and dark; `make site-test`."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from support.browser import chromium

ROOT = Path(__file__).resolve().parents[1]
GITHUB = "https://api.github.com/"  # the theme asks for the repository's stars
WIDTHS = {"desktop": 1280, "phone": 390}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly; the API reference reads the package that `make typed` builds."""
    if not (ROOT / "build" / "typed").is_dir():
        pytest.skip("build/typed is missing; `make site-test` builds it")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served; search needs a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@dataclass
class Watched:
    """A page of the browser, and what went wrong in it: messages of the console, answers, and requests to others."""

    page: Any
    wrong: list[str] = field(default_factory=list)


@pytest.fixture
def watch(browser: Any, address: str) -> Iterator[Any]:
    opened = []

    def make(width: int, scheme: str) -> Watched:
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        opened.append(context)
        watched = Watched(context.new_page())

        def outside(route: Any) -> None:
            if not route.request.url.startswith(GITHUB):
                watched.wrong.append(f"asks for {route.request.url}")
            route.fulfill(json={})

        context.route(re.compile(f"^(?!{re.escape(address)}|data:|blob:)"), outside)
        watched.page.on("console", lambda message: message.type == "error" and watched.wrong.append(message.text))
        watched.page.on("pageerror", lambda error: watched.wrong.append(str(error)))
        watched.page.on("response", lambda got: got.status >= 400 and watched.wrong.append(f"{got.status} {got.url}"))
        return watched

    yield make
    for context in opened:
        context.close()


def pages(site: Path) -> list[str]:
    return sorted(file.relative_to(site).as_posix() for file in site.rglob("*.html") if file.name != "404.html")


MEASURES = """() => ({
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    broken: [...document.images].filter(image => image.complete && !image.naturalWidth).map(image => image.src),
    paper: getComputedStyle(document.body).backgroundColor,
})"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=list(WIDTHS))
def test_every_page_opens(site: Path, address: str, watch: Any, width: int, scheme: str) -> None:
    watched, found = watch(width, scheme), []
    names = pages(site)
    assert len(names) == len([*(ROOT / "docs").rglob("*.md")])
    for name in names:
        watched.page.goto(address + name, wait_until="load")
        measured = watched.page.evaluate(MEASURES)
        found += [f"{name}: {what}" for what in (*watched.wrong, *measured["broken"])]
        watched.wrong.clear()
        if measured["overflow"] > 0:
            found.append(f"{name}: {measured['overflow']} pixels wider than the page")
        brightness = sum(map(int, re.findall(r"\d+", measured["paper"])[:3]))
        if (brightness > 380) != (scheme == "light"):
            found.append(f"{name}: {measured['paper']} where it should be {scheme}")
    assert found == []


class Links(HTMLParser):
    """Addresses that a page names, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            if name in ("href", "src") and value and tag in ("a", "img", "link", "script"):
                self.targets.append(value)


def test_links_and_pictures_are_there(site: Path) -> None:
    read = {name: Links((site / name).read_text("utf-8")) for name in pages(site)}
    wrong = []
    for name, found in read.items():
        for target in found.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (site / name).parent / unquote(parts.path) if parts.path else site / name
            file = (file / "index.html" if file.is_dir() else file).resolve()
            page = (
                read.get(file.relative_to(site.resolve()).as_posix()) if file.is_relative_to(site.resolve()) else None
            )
            anchored = page is None or parts.fragment in ("", *page.anchors, *map(unquote, page.anchors))
            if not file.is_file() or not anchored:
                wrong.append(f"{name}: {target}")
    assert wrong == []


@pytest.mark.parametrize("width", WIDTHS.values(), ids=list(WIDTHS))
def test_search_finds_a_word_of_one_page(address: str, watch: Any, width: int) -> None:
    watched = watch(width, "light")
    page = watched.page
    page.goto(address, wait_until="load")
    page.keyboard.press("s")  # opens the search
    page.locator("input.md-search__input").fill("kriging")
    first = page.locator("a.md-search-result__link").first
    first.wait_for(state="visible", timeout=20_000)
    first.click()
    page.wait_for_url(re.compile("schedules|sada"))
    assert "kriging" in page.locator("article").inner_text().lower()
    assert watched.wrong == []
