"""How results look: one line in a terminal, HTML that parses in a notebook."""

from html.parser import HTMLParser
from typing import Any

import pytest
import torch

from sadaflow import Pipeline
from sadaflow.display import html
from sadaflow.pipeline.output import Output
from sadaflow.solvers import Grid, RectifiedFlow, make_solver

VOID = {"img", "br", "polyline", "circle", "rect"}


class Balanced(HTMLParser):
    """Collects tags and text; fails on tags that are closed in the wrong order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID or tag == "rect":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(text: str) -> Balanced:
    parser = Balanced()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


@pytest.fixture(scope="module")
def out() -> Output:
    pipe = Pipeline.from_pretrained()
    return pipe(["red apple", "fire"], steps=6, seed=[0, 1], accelerator="uniform", trace=True, progress=False)


def widths(strip: Balanced) -> dict[str, float]:
    """Total width of each colour in a strip."""
    found: dict[str, float] = {}
    for tag, attributes in strip.tags:
        if tag == "rect":
            found[str(attributes["fill"])] = found.get(str(attributes["fill"]), 0) + float(str(attributes["width"]))
    return found


def test_a_strip_has_the_width_of_each_mode() -> None:
    found = widths(parsed(html.strip([["full", "full", "reused"], ["full", "reused", "full"]])))
    assert len(found) == 2 and max(found.values()) == 2 * min(found.values())
    assert html.strip([]) == ""


def test_a_strip_says_how_many_samples_it_leaves_out() -> None:
    assert "and 3 more samples" in parsed(html.strip([["full"]] * 11)).text


def test_text_is_escaped() -> None:
    assert "<script>" not in html.panel("<script>", html.table([("<script>", "<script>")]), html.strip([["<script>"]]))


def test_results_have_a_line_in_a_terminal(out: Output) -> None:
    assert out.trace is not None
    for made in (out, out.stats, out.trace, Pipeline.from_pretrained()):
        assert "\n" not in repr(made) and len(repr(made)) < 300
    assert "2 pictures" in repr(out) and f"nfe={sum(out.stats.nfe) / 2:g}" in repr(out)


def test_results_are_drawn_in_a_notebook(out: Output) -> None:
    found = parsed(out._repr_html_())
    pictures = [attributes for tag, attributes in found.tags if tag == "img"]
    assert len(pictures) == 2 and all(str(one["src"]).startswith("data:image/png;base64,") for one in pictures)
    assert len(out._repr_html_()) < 40_000
    for made in (out.trace, out.stats, Pipeline.from_pretrained()):
        parsed(made._repr_html_())  # type: ignore[union-attr]


def test_sounds_get_a_player(out: Output) -> None:
    made = Output(torch.zeros(1, 1, 4, 4), out.latents[:1], out.stats, torch.zeros(1, 100), 16_000)
    assert [tag for tag, _ in parsed(made._repr_html_()).tags].count("audio") == 1
    assert "1 sounds" in repr(made)
    with pytest.raises(ValueError, match="notebook"):
        made.show()


def test_nothing_to_show_is_an_error(out: Output) -> None:
    with pytest.raises(ValueError, match="latent"):
        Output(None, out.latents, out.stats).show()


def test_a_trace_has_a_row_per_sample_and_step(out: Output) -> None:
    trace = out.trace
    assert trace is not None
    rows = trace.rows()
    assert [(row["sample"], row["step"]) for row in rows] == [(b, i) for b in range(2) for i in range(6)]
    assert [row["mode"] for row in rows[:6]] == list(out.stats.modes[0])
    change = (trace.x0[1, 3] - trace.x0[1, 2]).norm() / trace.x0[1, 3].norm()
    assert rows[9]["x0_change"] == pytest.approx(float(change), rel=1e-5)


def test_a_trace_is_plotted(out: Output) -> None:
    assert out.trace is not None
    figure: Any = out.trace.plot(1)
    bars = figure.axes[-1].patches
    assert [bar.get_facecolor() for bar in bars] != [] and len(bars) == 6
    with pytest.raises(ValueError, match="2 samples"):
        out.trace.plot(2)


@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp2m"])
def test_a_solver_draws_its_evaluations_on_its_grid(name: str) -> None:
    solver = make_solver(name, Grid.from_t(RectifiedFlow(), torch.linspace(1, 0, 9)))
    found = parsed(solver._repr_html_())
    assert len([tag for tag, _ in found.tags if tag == "circle"]) == sum(node.alpha > 0 for node in solver.nodes)
    heights = [float(str(attributes["cy"])) for tag, attributes in found.tags if tag == "circle"]
    assert heights == sorted(heights)  # noise falls from left to right
    assert "\n" not in repr(solver) and len(repr(solver.grid)) < 200
