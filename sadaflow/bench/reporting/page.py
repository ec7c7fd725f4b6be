"""The report of a bench as one HTML page that needs no other file and no network.

Needs Jinja2 and Pillow, the extra `bench`.
"""

import base64
import io
import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ...compare.comparison import amplification
from ...display.modes import mode_meaning
from ...files.images import from_pil, to_image
from ..run.lines import Record
from ..run.sweep import case_of
from ..run.worst import Worst, worst
from ..suite.model import Case, Setting, Suite
from ..suite.toml import shipped_suites
from .curves import shades
from .front_chart import Chart, chart
from .fronts import Row, rows
from .strips import Strip, mode_strips
from .tables import Measured, Table, case_tables, provenance


def page(suite: Suite, header: Record, found: Measured, pictures: Path) -> str:
    """Renders the page.

    Args:
        suite: The suite that was measured.
        header: `header.json` of the folder.
        found: Measurements of the folder.
        pictures: Folder of the worst pictures.

    Returns:
        HTML text.
    """
    colours = shades(suite)
    cases = [
        _case(suite, header, case, table, found, pictures)
        for case in suite.cases
        if (table := rows(suite, case, found.records))
    ]
    return _render(
        title=suite.name,
        provenance=provenance(suite, header, found),
        cases=cases,
        methods={method: number for number, method in enumerate(colours)},
        shades=list(colours.values()),
        samples=[case.samples for case in cases],
        **_reproduction(suite, header),
    )


def _render(**values: Any) -> str:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise ImportError("the report of a bench needs Jinja2: pip install 'sadaflow[bench]'") from error
    environment = Environment(
        loader=PackageLoader("sadaflow.bench", "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "px": lambda pixels: f"{pixels:.1f}",
        "number": lambda value: f"{value:g}",
        "meaning": mode_meaning,
        "uri": lambda png: f"data:image/png;base64,{base64.b64encode(png).decode()}",
    }
    files = resources.files(__package__)
    style, script = (Markup((files / f"report.{ending}").read_text("utf-8")) for ending in ("css", "js"))
    return environment.get_template("report.html.jinja").render(style=style, script=script, **values)


@dataclass(frozen=True)
class _Panels:
    """The worst sample of a setting: plain, accelerated and their difference, side by side.

    Attributes:
        label: The setting.
        text: Fidelity, cost and sample, in words.
        png: The picture.
        width: Its width in pixels.
        height: Its height in pixels.
        factor: Amplification of the difference.
    """

    label: str
    text: str
    png: bytes
    width: int
    height: int
    factor: int

    @property
    def crisp(self) -> bool:
        """Whether the picture is so small that the browser should enlarge it without smoothing."""
        return self.width <= 3 * 128


@dataclass(frozen=True)
class _Case:
    """What the page shows of a case; `modes` holds the colours of modes in the strips, `samples` the names of rows."""

    title: str
    chart: Chart | None
    tables: Sequence[Table]
    modes: dict[str, str]
    strips: Sequence[Strip]
    worst: Sequence[_Panels]
    samples: Sequence[str]


def _case(
    suite: Suite, header: Record, case: Case, table: Sequence[Row], measured: Measured, pictures: Path
) -> _Case:
    records = [record for record in measured.records if case_of(record) == case]
    samples = suite.samples_of(case)
    modes, strips = mode_strips(samples, table, records)
    kept = [(row.setting, found) for row in table if (found := worst(pictures, case, row.setting))]
    return _Case(
        title=case.title,
        chart=chart(table, [method.name for method in suite.methods]),
        tables=case_tables(suite, header, case, table, measured),
        modes=modes,
        strips=strips,
        worst=[_panels(setting, found) for setting, found in kept],
        samples=[", ".join(filter(None, (sample.prompt, f"seed {sample.seed}"))) for sample in samples],
    )


def _panels(setting: Setting, found: Worst) -> _Panels:
    from PIL import Image

    width, height = found.image.width // 2, found.image.height
    halves = (found.image.crop((left, 0, left + width, height)) for left in (0, width))
    plain, fast = (from_pil(half, (height, width)) for half in halves)
    difference = (fast - plain).abs()
    factor = amplification(difference)
    whole = Image.new("RGB", (3 * width, height))
    whole.paste(found.image, (0, 0))
    whole.paste(to_image(difference * factor), (2 * width, 0))
    content = io.BytesIO()
    whole.save(content, format="PNG", optimize=True)
    prompt = f"{found.sample.prompt}, " if found.sample.prompt else ""
    text = f"{found.psnr:.2f} dB at {found.nfe:g} evaluations; {prompt}seed {found.sample.seed}"
    return _Panels(setting.label, text, content.getvalue(), 3 * width, height, factor)


def _reproduction(suite: Suite, header: Record) -> dict[str, Any]:
    """Returns what the section "Reproduce" shows: command, versions, weights, sessions, suite and prompts."""
    shipped = shipped_suites().get(suite.name) == suite.text
    name = suite.name if shipped else f"{suite.name}.toml"
    command = f"sadaflow bench {shlex.quote(name)} --out FOLDER --device {header['device']} --dtype {header['dtype']}"
    origin = {key: header[key] for key in ("sadaflow", "torch", "device", "dtype")}
    origin |= {f"weights of {model}": fingerprint for model, fingerprint in header["models"].items()}
    origin |= {f"metric {key}": about["source"] for key, about in header.get("metrics", {}).items()}
    lines: Iterable[str] = (
        json.dumps({"prompt": sample.prompt, "seed": sample.seed}, ensure_ascii=False) for sample in suite.samples
    )
    return {
        "command": command + " --prompts prompts.jsonl" * suite.given,
        "suite_file": "" if shipped else name,
        "origin": origin,
        "sessions": header["sessions"],
        "suite_text": suite.text,
        "prompts": "\n".join(lines) if suite.given else "",
    }
