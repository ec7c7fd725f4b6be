"""Links of the pages, the answers of docs/where.md, and the drawing of the rooms in docs/architecture.md."""

import re
from pathlib import Path

import draw_rooms
import pytest
import rooms

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
REPOSITORY = "https://github.com/sadaflow/sadaflow/"
FILES = re.compile(rf"{REPOSITORY}(?:blob|tree)/main/")  # the README is read outside of the repository too
LINK = re.compile(r"\[([^\]]+)\]\((?!https?://)([^)\s]+)\)")


def content(page: Path) -> str:
    """A page without its blocks of code; links to files of the repository lead to its root, as the README's do."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text("utf-8"), flags=re.S | re.M)
    return FILES.sub("", text) if page.parent == ROOT else text


def links(page: Path) -> list[tuple[str, Path, str]]:
    """(text, target, anchor) of each link of a page to this repository."""
    found = [(text, *target.partition("#")[::2]) for text, target in LINK.findall(content(page))]
    return [(text, (page.parent / file).resolve() if file else page, anchor) for text, file, anchor in found]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", content(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    wrong = [target for _, target, anchor in links(page) if not target.exists()]
    assert wrong == []
    wrong = [f"{target.name}#{anchor}" for _, target, anchor in links(page) if anchor and anchor not in anchors(target)]
    assert wrong == []


def test_where_page_answers_twenty_questions() -> None:
    questions = re.findall(r"^\| ([^|]+\?) \| (.*) \|$", content(ROOT / "docs/where.md"), re.M)
    assert len(questions) >= 20 and len({question for question, _ in questions}) == len(questions)
    assert [question for question, answer in questions if not LINK.search(answer)] == []


def test_names_of_the_where_page_are_defined_in_the_files_that_they_link() -> None:
    named = [(text.strip("`"), target) for text, target, _ in links(ROOT / "docs/where.md") if target.suffix == ".py"]
    code = [(name, target) for name, target in named if name.isidentifier()]
    assert len(code) >= 20
    for name, target in code:
        assert re.search(rf"^(def|class) {name}\b|^{name}\b.* = ", target.read_text("utf-8"), re.M), (name, target)


def test_the_readme_links_every_page_of_the_house() -> None:
    linked = {target for _, target, _ in links(ROOT / "README.md")}
    assert {ROOT / name for name in ("docs/where.md", "docs/architecture.md", "CONTRIBUTING.md")} <= linked
    near = linked.union(*({target for _, target, _ in links(page)} for page in linked if page.suffix == ".md"))
    assert [page.name for page in PAGES if page not in near | {ROOT / "README.md"}] == []


def test_the_drawing_is_that_of_the_imports() -> None:
    page = ROOT / "docs/architecture.md"
    drawn = draw_rooms.drawing(draw_rooms.Plan.read(rooms.read_modules(ROOT), "sadaflow"), ".md")
    remedy = "run `python docs/scripts/draw_rooms.py --out docs/architecture.md`"
    assert page.read_text("utf-8") == draw_rooms.between_marks(page, drawn), remedy


def test_a_page_keeps_its_text_around_the_drawing(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{draw_rooms.BEGIN}old\n{draw_rooms.END}after\n")
    assert draw_rooms.between_marks(page, "new\n") == f"before\n{draw_rooms.BEGIN}new\n{draw_rooms.END}after\n"
    assert draw_rooms.between_marks(tmp_path / "other.md", "new\n") == "new\n"


def test_every_room_is_described() -> None:
    found = {room.removeprefix("sadaflow.") for room in rooms.rooms(rooms.read_modules(ROOT), "sadaflow")}
    described = set(re.findall(r"^\| \[(\w+)\]\(", content(ROOT / "docs/architecture.md"), re.M))
    assert described == found - {"_checkout"}
