"""The report of a bench as one HTML page that holds all it shows: no other file, no network, no library."""

import base64
import io
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from itertools import cycle
from pathlib import Path
from typing import Any

from ...compare.image_figure import amplification
from ...compare.style import mode_meaning
from ...files.images import from_pil, to_image
from ..run.folder import Record
from ..run.sweep import case_of
from ..run.worst import Worst, worst
from ..suite.model import Case, Setting, Suite
from ..suite.toml import shipped_suites
from .front_figure import COLOURS
from .front_svg import chart
from .fronts import Row, rows
from .strips import colours_of, strip
from .tables import Measured, Table, case_tables, provenance

# What would not stand out on a dark ground, or not from its neighbours.
LIGHTER = {"#0072b2": "#4d8dff", "#56b4e9": "#79d7f5", "#555555": "#b0b0b0", "#a6a6a6": "#7d7d7d", "#882255": "#d4699c"}
DARKER = {"#f0e442": "#b8a800", "#56b4e9": "#2f97d0"}  # and on a light one


def page(suite: Suite, header: Record, found: Measured, pictures: Path) -> str:
    """The page. `pictures` is the folder of the worst pictures."""
    methods = list(dict.fromkeys(method.name for method in suite.methods))
    colours = {name: number for name, number in zip(methods, cycle(range(len(COLOURS))), strict=False)}
    measured = [(case, table) for case in suite.cases if (table := rows(suite, case, found.records))]
    sections = [
        _case(suite, header, case, table, found, colours, pictures, number)
        for number, (case, table) in enumerate(measured, 1)
    ]
    titles = enumerate((case.title for case, _ in measured), 1)
    links = "".join(f'<a href="#case-{number}">{escape(title)}</a>' for number, title in titles)
    files = resources.files(__package__)
    style, script = ((files / f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    samples = [f"{one.prompt}, seed {one.seed}" if one.prompt else f"seed {one.seed}" for one in suite.samples]
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(suite.name)} - sadaflow bench</title>",
            f'<link rel="icon" href="data:,"><style>{_palette()}{style}</style></head><body><main>',
            f"<header><p class=kind>sadaflow bench</p><h1>{escape(suite.name)}</h1>",
            *(f"<p>{escape(line)}</p>" for line in provenance(suite, header, found)),
            f'<nav>{links}<a href="#reproduce">Reproduce</a></nav></header>',
            *sections,
            _reproduce(suite, header),
            '</main><div id="tip" hidden></div>',
            f'<script type="application/json" id="samples">{_json(samples)}</script>',
            f"<script>{script}</script></body></html>\n",
        ]
    )


def _case(
    suite: Suite,
    header: Record,
    case: Case,
    table: Sequence[Row],
    measured: Measured,
    colours: dict[str, int],
    pictures: Path,
    number: int,
) -> str:
    kept = [(row.setting, found) for row in table if (found := worst(pictures, case, row.setting))]
    parts = [f'<section id="case-{number}"><h2>{escape(case.title)}</h2>', _chart(table, colours)]
    for one in case_tables(suite, header, case, table, measured):
        parts.append(_table(one, colours))
    records = [record for record in measured.records if case_of(record) == case]
    parts += [_strips(suite, table, records), _worst(kept), "</section>"]
    return "\n".join(parts)


def _chart(table: Sequence[Row], colours: dict[str, int]) -> str:
    drawn = chart(table, colours)
    note = "Solid: mean of all samples. Dashed: the worst of them. Hollow: beaten by another setting of the method."
    return f"<figure>{drawn}<figcaption><span>{note}</span></figcaption></figure>" if drawn else ""


def _table(table: Table, colours: Mapping[str, int]) -> str:
    head = "".join(
        f'<th scope="col" class="{_kind(column, table)}"><button type="button">{escape(name)}</button></th>'
        for column, name in enumerate(table.head)
    )
    lines = []
    for cells in table.lines:
        swatch = f'<i class="swatch c{colours[cells[0]]}"></i>' if cells[0] in colours else ""
        shown = "".join(
            f'<td class="{_kind(column, table)}">{swatch * (not column)}{escape(cell)}</td>'
            for column, cell in enumerate(cells)
        )
        lines.append(f"<tr>{shown}</tr>")
    caption = f"<p class=caption>{escape(table.caption)}</p>" if table.caption else ""
    return (
        f'{caption}<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    )


def _kind(column: int, table: Table) -> str:
    return "word" if column < table.words else "number"


def _strips(suite: Suite, table: Sequence[Row], records: Sequence[Record]) -> str:
    """One strip for every accelerated setting; the others run the network at each of their steps."""
    by_setting: dict[str, list[Record]] = {}
    for record in records:
        if set(record["modes"]) != {"F"}:
            by_setting.setdefault(record["setting"], []).append(record)
    if not by_setting:
        return ""
    colours = colours_of([record for some in by_setting.values() for record in some])
    key = "".join(
        f'<li data-colour="{colour}"><i style="background:{colour}"></i>{escape(mode_meaning(mode))}</li>'
        for mode, colour in colours.items()
    )
    height = min(max(4 * len(suite.samples), 12), 160)
    figures = []
    for row in table:
        if row.setting.label in by_setting:
            image = _uri(strip(by_setting[row.setting.label], suite.samples, colours))
            figures.append(
                f'<figure><img class="strip" style="height:{height}px" src="{image}" '
                f'alt="modes of {escape(row.setting.label)}"><figcaption>{escape(row.setting.label)} '
                f"<span>{row.cost:.1f} evaluations</span></figcaption></figure>"
            )
    return (
        "<details open><summary>What was done at each step</summary><p class=caption>One row a sample, one column a "
        f'step, noise at the left.</p><ul class="key">{key}</ul><div class="strips">{"".join(figures)}</div></details>'
    )


def _worst(kept: Iterable[tuple[Setting, Worst]]) -> str:
    figures = []
    for setting, found in kept:
        image, factor = _panels(found.image)
        size = image.width // 3
        crisp = " crisp" * (size <= 128)
        prompt = f"{found.sample.prompt}, " if found.sample.prompt else ""
        figures.append(
            f'<figure><img class="worst{crisp}" width="{image.width}" height="{image.height}" src="{_png(image)}" '
            f'alt="plain, accelerated and their difference"><figcaption><b>{escape(setting.label)}</b> '
            f"<span>{found.psnr:.2f} dB at {found.nfe:g} evaluations; {escape(prompt)}seed {found.sample.seed}; "
            f"difference x{factor}</span></figcaption></figure>"
        )
    if not figures:
        return ""
    return (
        "<details open><summary>The worst sample of every setting</summary><p class=caption>Plain, accelerated, and "
        f'their difference, amplified.</p><div class="worsts">{"".join(figures)}</div></details>'
    )


def _panels(both: Any) -> tuple[Any, int]:
    """Plain, accelerated and the difference, amplified by the factor returned, side by side."""
    from PIL import Image

    width, height = both.width // 2, both.height
    plain, fast = (from_pil(both.crop((left, 0, left + width, height)), (height, width)) for left in (0, width))
    difference = (fast - plain).abs()
    factor = amplification(difference)
    whole = Image.new("RGB", (3 * width, height))
    whole.paste(both, (0, 0))
    whole.paste(to_image(difference * factor), (2 * width, 0))
    return whole, factor


def _reproduce(suite: Suite, header: Record) -> str:
    shipped = shipped_suites().get(suite.name) == suite.text
    name = suite.name if shipped else f"{suite.name}.toml"
    command = f"sadaflow bench {shlex.quote(name)} --out FOLDER --device {header['device']} --dtype {header['dtype']}"
    command += " --prompts prompts.jsonl" * suite.given
    told = {name: header[name] for name in ("sadaflow", "torch", "device", "dtype")}
    parts = [
        '<section id="reproduce"><h2>Reproduce</h2>',
        f"<pre>{escape(command)}</pre>",
        "" if shipped else f"<p>with the suite below in {escape(name)}.</p>",
        _facts(told | _sources(header)),
    ]
    for number, session in enumerate(header["sessions"], 1):
        parts += [f"<h3>Session {number}</h3>", _facts(session)]
    parts += ["<h3>Suite</h3>", f"<pre>{escape(suite.text)}</pre>"]
    if suite.given:
        lines = (json.dumps({"prompt": one.prompt, "seed": one.seed}, ensure_ascii=False) for one in suite.samples)
        parts.append(f"<details><summary>prompts.jsonl</summary><pre>{escape(chr(10).join(lines))}</pre></details>")
    parts.append("</section>")
    return "\n".join(parts)


def _sources(header: Record) -> dict[str, str]:
    weights = {f"weights of {model}": fingerprint for model, fingerprint in header["models"].items()}
    return weights | {f"metric {name}": told["source"] for name, told in header.get("metrics", {}).items()}


def _facts(values: Mapping[str, Any]) -> str:
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in values.items())
    return f"<dl>{lines}</dl>"


def _palette() -> str:
    """CSS classes c0, c1, ... that set --c, for a light and a dark ground."""
    light = "".join(f".c{number}{{--c:{DARKER.get(colour, colour)}}}" for number, colour in enumerate(COLOURS))
    dark = "".join(f".c{number}{{--c:{LIGHTER.get(colour, colour)}}}" for number, colour in enumerate(COLOURS))
    return f"{light}@media(prefers-color-scheme:dark){{{dark}}}"


def _png(image: Any) -> str:
    content = io.BytesIO()
    image.save(content, format="PNG", optimize=True)
    return _uri(content.getvalue())


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
