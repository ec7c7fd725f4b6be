"""Counts and draws the rooms of this repository, read from its imports (see rooms.py for the words).

    python docs/scripts/draw_rooms.py                                  # numbers, and the rooms floor by floor
    python docs/scripts/draw_rooms.py --inside sadaflow.accelerators   # the same of one package
    python docs/scripts/draw_rooms.py --list                           # with every long file and function by name
    python docs/scripts/draw_rooms.py --out rooms.svg                  # a drawing: .svg, or .mmd and .md for Mermaid
    python docs/scripts/draw_rooms.py --out docs/architecture.md       # the drawing of that page, between its marks

A drawing leaves out arrows that a longer way implies.
"""

import argparse
from collections import Counter
from dataclasses import dataclass
from html import escape
from pathlib import Path

import rooms

FILE_LINES, FUNCTION_LINES, PARAMETERS = 250, 40, 8
BEGIN, END = "<!-- rooms: begin -->\n", "<!-- rooms: end -->\n"
BOX, GAP, LEVEL = (118, 34), 14, 84  # pixels: width and height of a room, space between rooms, height of a floor


@dataclass(frozen=True)
class Plan:
    """The rooms of a package.

    Args:
        package: the package that is drawn.
        lines: lines of code of each room.
        arrows: number of imports, made when a module is loaded, from one room into another.
        lazy: the same of imports inside functions.
        floors: the floor of each room, from 1.
    """

    package: str
    lines: dict[str, int]
    arrows: Counter[rooms.Arrow]
    lazy: Counter[rooms.Arrow]
    floors: dict[str, int]

    @classmethod
    def read(cls, modules: dict[str, rooms.Module], package: str) -> "Plan":
        names = rooms.rooms(modules, package)
        if not names:
            raise ValueError(f"{package!r} has no rooms; packages are sadaflow and those inside it")
        lines: Counter[str] = Counter()
        for name, module in modules.items():
            if room := rooms.room_of(name, package):
                lines[room] += module.lines
        imports = rooms.read_imports(modules)
        arrows = rooms.arrows((item for item in imports if not item.lazy), package)
        lazy = rooms.arrows((item for item in imports if item.lazy), package)
        return cls(package, dict(lines), arrows, lazy, rooms.floors(names, arrows))

    def short(self, room: str) -> str:
        return room.removeprefix(self.package + ".")

    def levels(self) -> list[list[str]]:
        """Rooms floor by floor, the lowest first."""
        highest = max(self.floors.values())
        return [sorted(room for room in self.floors if self.floors[room] == floor) for floor in range(1, highest + 1)]

    def drawn(self) -> list[rooms.Arrow]:
        """The arrows of a drawing: none that a longer way implies, and all that run back up."""
        back = rooms.back_arrows(self.arrows)
        return rooms.direct(self.arrows.keys() - set(back)) + back


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2], help="the repository")
    parser.add_argument("--inside", default="sadaflow", metavar="PACKAGE")
    parser.add_argument("--list", action="store_true", help="name every file and function over the limits")
    parser.add_argument("--out", type=Path, help="draw into .svg, .mmd or .md (between a page's marks)")
    options = parser.parse_args()
    modules = rooms.read_modules(options.root)
    try:
        plan = Plan.read(modules, options.inside)
        if options.out:
            text = drawing(plan, options.out.suffix)
            options.out.write_text(between_marks(options.out, text), "utf-8")
    except ValueError as error:
        parser.error(str(error))
    print(counts(plan))
    inside = [module for name, module in modules.items() if f"{name}.".startswith(options.inside + ".")]
    print(sizes(inside, options.list))


def drawing(plan: Plan, suffix: str) -> str:
    """The drawing in the format of a file name's suffix. Raises ValueError for another one."""
    if suffix == ".svg":
        return svg(plan)
    if suffix == ".mmd":
        return mermaid(plan)
    if suffix == ".md":
        return f"```mermaid\n{mermaid(plan)}```\n"
    raise ValueError(f"a drawing is .svg, .mmd or .md, not {suffix!r}")


def between_marks(path: Path, text: str) -> str:
    """The content of a page with `text` between its marks; `text` alone if there is no such page."""
    page = path.read_text("utf-8") if path.suffix == ".md" and path.is_file() else ""
    if BEGIN not in page or END not in page:
        return text
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + text + END + rest.partition(END)[2]


def counts(plan: Plan) -> str:
    """Rooms, floors, circles and arrows as text."""
    circles, back = rooms.circles(plan.arrows), rooms.back_arrows(plan.arrows)
    with_lazy = rooms.circles(plan.arrows + plan.lazy)
    lines = [
        f"{len(plan.floors)} rooms on {max(plan.floors.values())} floors in {plan.package}, {len(plan.arrows)} arrows "
        f"({plan.arrows.total()} imports), {plan.lazy.total()} imports inside functions",
        f"{len(circles)} circles, {len(back)} arrows back up; {len(with_lazy)} circles with imports inside functions",
    ]
    lines += [f"  circle: {', '.join(map(plan.short, circle))}" for circle in with_lazy]
    lines += [f"  back up: {plan.short(a)} -> {plan.short(b)} ({plan.arrows[a, b]} imports)" for a, b in back]
    for floor, level in reversed(list(enumerate(plan.levels(), 1))):
        lines.append(f"floor {floor}: " + ", ".join(f"{plan.short(room)} ({plan.lines[room]})" for room in level))
    return "\n".join(lines)


def sizes(modules: list[rooms.Module], named: bool) -> str:
    """How many files and functions are over the limits, and with `named` which."""
    found = {
        f"files over {FILE_LINES} lines": rooms.long_files(modules, FILE_LINES),
        f"functions over {FUNCTION_LINES} lines": rooms.long_functions(modules, FUNCTION_LINES),
        f"functions of more than {PARAMETERS} parameters": rooms.wide_functions(modules, PARAMETERS),
    }
    lines = []
    for what, over in found.items():
        lines.append(f"{len(over)} {what}")
        lines += [f"  {size:4d}  {name}" for name, size in over if named]
    return "\n".join(lines)


def mermaid(plan: Plan) -> str:
    """A Mermaid flowchart, imported rooms below the rooms that import them."""
    lines = ["flowchart TD"]
    lines += [f"    {plan.short(room)}" for room in sorted(plan.floors)]
    back = set(rooms.back_arrows(plan.arrows))
    lines += [f"    {plan.short(a)} {'-.->' if (a, b) in back else '-->'} {plan.short(b)}" for a, b in plan.drawn()]
    return "\n".join(lines) + "\n"


def svg(plan: Plan) -> str:
    """An SVG drawing with one row of rooms for each floor; arrows back up are red."""
    levels, (width, height) = plan.levels(), BOX
    total = max(map(len, levels)) * (width + GAP) + GAP
    at: dict[str, tuple[float, float]] = {}  # middle of each room
    for index, level in enumerate(reversed(levels)):
        left = (total - len(level) * (width + GAP) + GAP) / 2
        at |= {room: (left + n * (width + GAP) + width / 2, index * LEVEL + LEVEL / 2) for n, room in enumerate(level)}
    back = set(rooms.back_arrows(plan.arrows))
    shapes = []
    for a, b in plan.drawn():
        (x, y), (u, v), colour = at[a], at[b], "#c0392b" if (a, b) in back else "#8a94a0"
        y, v = (y - height / 2, v + height / 2) if v < y else (y + height / 2, v - height / 2)
        shapes.append(f'<path d="M{x:g} {y:g}L{u:g} {v:g}" stroke="{colour}" marker-end="url(#head)"/>')
    for room, (x, y) in at.items():
        corner = f'x="{x - width / 2:g}" y="{y - height / 2:g}" width="{width}" height="{height}" rx="5"'
        shapes.append(f'<rect {corner} fill="#eef2f6" stroke="#5b6672"/>')
        shapes.append(f'<text x="{x:g}" y="{y + 1:g}">{escape(plan.short(room))}</text>')
        shapes.append(f'<text x="{x:g}" y="{y + 12:g}" font-size="8">{plan.lines[room]} lines</text>')
    head = '<marker id="head" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" markerHeight="6" orient="auto">'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total:g} {len(levels) * LEVEL}" '
            'font-family="sans-serif" font-size="12" text-anchor="middle">',
            f'<defs>{head}<path d="M0 0L6 3L0 6z" fill="#5b6672"/></marker></defs>',
            f'<rect width="{total:g}" height="{len(levels) * LEVEL}" fill="#ffffff"/>',
            *shapes,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    main()
