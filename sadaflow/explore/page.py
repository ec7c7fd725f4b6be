"""Writes the page: the runs as JSON, and the script that draws them."""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from ..display.methods import method_of, method_shades
from ..display.modes import mode_colours, mode_meaning
from .run import ExploredRun


def explore_page(title: str, groups: Mapping[str, Sequence[ExploredRun]]) -> str:
    """Renders the page.

    Args:
        title: Heading of the page.
        groups: Runs that are shown beside each other, by the name of the group, such as the prompt. The first run of a
            group is the one that the others differ from.

    Returns:
        HTML text that needs no other file.

    Raises:
        ValueError: If there is no run, or if the runs of a group differ in their number of steps.
    """
    if not groups or not all(groups.values()):
        raise ValueError("there is no run to explore")
    for name, runs in groups.items():
        if len({len(run.modes) for run in runs}) > 1:
            counts = ", ".join(f"{run.label}: {len(run.modes)}" for run in runs)
            raise ValueError(f"the runs of {name!r} have different numbers of steps ({counts})")
    colours = mode_colours(mode for runs in groups.values() for run in runs for mode in run.modes)
    labels = list(dict.fromkeys(run.label for runs in groups.values() for run in runs))
    data = {
        "groups": [{"name": name, "runs": [run.data() for run in runs]} for name, runs in groups.items()],
        "modes": {mode: {"colour": colour, "meaning": mode_meaning(mode)} for mode, colour in colours.items()},
        "labels": labels,
    }
    files = resources.files(__package__)
    page = (files / "explore.html").read_text("utf-8")
    for mark, text in (
        ("{{title}}", escape(title)),
        ("{{style}}", _shades(labels) + (files / "explore.css").read_text("utf-8")),
        ("{{script}}", (files / "explore.js").read_text("utf-8")),
        ("{{data}}", json.dumps(data, default=_uri).replace("<", "\\u003c")),  # last: it may hold any text
    ):
        page = page.replace(mark, text)
    return page


def _shades(labels: Sequence[str]) -> str:
    """The colours of the runs as CSS variables, --r0 of the first label, for light and dark pages."""
    shades = method_shades({label: method_of(label) for label in labels}).values()
    light, dark = (";".join(f"--r{index}:{getattr(shade, version)}" for index, shade in enumerate(shades))
                   for version in ("light", "dark"))  # fmt: skip
    return f":root{{{light}}}\n@media(prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def _uri(content: Any) -> str:
    if not isinstance(content, bytes):
        raise TypeError(f"{type(content).__name__} cannot be written as JSON")
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
