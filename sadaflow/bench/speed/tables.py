"""Formats speed.json as Markdown: medians with their range, and medians of the ratios within a round."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import loading
from .controller import PLAIN, SHAPE
from .rounds import Round, Spread, efficiency, ratio, spread
from .sampling import Record, accelerated
from .sides import OURS, THEIRS

_NAMES = {OURS: "sadaflow", THEIRS: "Diffusers"}


def markdown(results: Record) -> str:
    """Returns the tables of everything measured so far."""
    about = results["environment"]
    versions = ", ".join(f"{name} {about[name]}" for name in ("sadaflow", "torch", "diffusers") if about[name])
    lines = [
        "# sadaflow bench speed",
        "",
        f"{about['hardware']}, {about['device']}, {about['dtype']}, {about['threads']} threads; {versions}; "
        f"Python {about['python']}, {about['platform']}; code {about['source']}.",
        "Medians (least to most); ratios are medians of the ratios within a round.",
    ]
    for measure, table in (
        ("sampling", _sampling),
        ("starts", _starts),
        ("memory", _memory),
        ("loading", _loading),
    ):
        for record in results[measure]:
            lines += ["", *table(record)]
    for record in results["controller"]:
        lines += ["", *_controller(record, network_seconds(results))]
    return "\n".join(lines) + "\n"


def network_seconds(results: Record) -> float | None:
    """Returns seconds of a network evaluation at the size of SDXL: as given, or as measured on a model of that size."""
    given: float | None = results["settings"]["network_seconds"]
    if given is None:
        for record in results["sampling"]:
            if tuple(record["latent"]) == SHAPE:
                return spread(record["rounds"], OURS, "network").median / record["steps"]
    return given


def _sampling(record: Record) -> Iterator[str]:
    rounds, batch, steps = _derived(record), record["batch"], record["steps"]
    yield f"## {_title(record)}: {batch} at a time, {len(rounds)} rounds"
    if record["difference"] is not None:
        yield ""
        yield (
            f"Largest difference of the final latents {record['difference']:.2g}, of values up to "
            f"{record['latents']:.3g}."
        )
    yield ""
    yield from _sides(
        rounds,
        {
            "seconds per image": ("image", 1),
            f"ms per evaluation of the network ({steps} per image)": ("evaluation", 1e3),
            "ms outside the network per image": ("outside", 1e3),
        },
    )
    fast = [name for name in rounds[0] if name not in _NAMES]
    if fast:
        yield from ("", "| accelerator | NFE | seconds of the loop | speed-up | efficiency |", "|---|---|---|---|---|")
    for name in fast:
        loop, nfe = spread(rounds, name, "loop"), spread(rounds, name, "nfe").median
        speed_up = ratio(rounds, OURS, name, "loop")
        share = efficiency(rounds, name, OURS)
        yield f"| `{name.removeprefix(accelerated(''))}` | {nfe:.1f} | {_shown(loop)} | {speed_up:.2f}x | {share:.3f} |"


def _derived(record: Record) -> list[Round]:
    """Adds to the rounds: seconds per image, per evaluation, and outside the network."""
    batch, steps = record["batch"], record["steps"]

    def derived(name: str, run: Mapping[str, float]) -> Mapping[str, float]:
        image = {"image": run["seconds"] / batch, "outside": (run["seconds"] - run["network"]) / batch}
        return {**run, **image} | ({"evaluation": run["network"] / steps} if name in _NAMES else {})

    return [{name: derived(name, run) for name, run in numbers.items()} for numbers in record["rounds"]]


def _starts(record: Record) -> Iterator[str]:
    rounds = record["rounds"]
    yield f"## {record['model']}: start-up until the first step, {len(rounds)} processes each"
    yield ""
    yield from _sides(
        rounds,
        {
            "seconds to import": ("import", 1),
            "of these, torch alone": ("torch", 1),
            "to load": ("load", 1),
            "to make the first step": ("first", 1),
            "in all": ("total", 1),
        },
    )


def _memory(record: Record) -> Iterator[str]:
    yield f"## {_title(record)}: memory, one process each, {record['batch']} at a time"
    yield ""
    rounds = [{side: record[side] for side in _NAMES if side in record}]
    held = {"peak MB of the process": ("process", 1e-6), "MB of tensors beyond the weights": ("call", 1e-6)}
    yield from _sides(rounds, {label: how for label, how in held.items() if how[0] in record[OURS]}, digits=1)


def _loading(record: Record) -> Iterator[str]:
    rounds, where = record["rounds"], "the disk" if record["cold"] else "the page cache"
    yield f"## {record['model']}: loading {record['bytes'] / 1e9:.2f} GB from {where}, {len(rounds)} rounds"
    yield ""
    yield from ("| | seconds | over reading |", "|---|---|---|")
    for name in rounds[0]:
        over = "" if name == loading.READ else f"{ratio(rounds, name, loading.READ, 'seconds'):.2f}"
        yield f"| {_NAMES.get(name, name)} | {_shown(spread(rounds, name, 'seconds'))} | {over} |"


def _controller(record: Record, network: float | None) -> Iterator[str]:
    rounds = record["rounds"]
    size = "x".join(map(str, SHAPE))
    yield f"## Outside the network at {size}, {record['steps']} steps, {len(rounds)} rounds"
    yield ""
    share = "" if network is None else f" share of an evaluation ({network * 1e3:.1f} ms) |"
    yield f"| | NFE | accelerator, ms a step | solver and loop, ms a step |{share}"
    yield f"|---|---|---|---|{'---|' * bool(share)}"
    for name in rounds[0]:
        own, rest = spread(rounds, name, "controller"), spread(rounds, name, "solver")
        nfe = spread(rounds, name, "nfe").median
        label = name if name == PLAIN else f"`{name}`"
        part = "" if network is None else f" {(own.median + rest.median) / network:.2%} |"
        yield f"| {label} | {nfe:.1f} | {_shown(own, 1e3)} | {_shown(rest, 1e3)} |{part}"
    for name, reason in record["unfit"].items():
        yield from ("", f"`{name}` is left out: {reason}.")


def _sides(rounds: Sequence[Round], rows: Mapping[str, tuple[str, float]], digits: int = 3) -> Iterator[str]:
    """Yields a table with a line per number, a column per side, and their ratio if there are both."""
    sides = [side for side in _NAMES if side in rounds[0]]
    both = len(sides) > 1
    yield f"| | {' | '.join(_NAMES[side] for side in sides)} |{' ratio |' * both}"
    yield f"|---{'|---' * len(sides)}|{'---|' * both}"
    for label, (number, scale) in rows.items():
        shown = " | ".join(_shown(spread(rounds, side, number), scale, digits) for side in sides)
        part = f" {ratio(rounds, OURS, THEIRS, number):.3f} |" if both else ""
        yield f"| {label} | {shown} |{part}"


def _shown(values: Spread, scale: float = 1, digits: int = 3) -> str:
    median, least, most = (f"{value * scale:.{digits}f}" for value in (values.median, values.least, values.most))
    return median if least == most else f"{median} ({least} to {most})"


def _title(record: Mapping[str, Any]) -> str:
    height, width = record["pixels"]
    solver = record["solver"] or "its own solver"
    how = f"{record['steps']} steps of {solver}, guidance {record['guidance']:g}"
    compiled = f", compiled{' in mode ' + record['mode'] if record['mode'] else ''}" if record["compiled"] else ""
    marks = f"{compiled}{'' if record['decoded'] else ', not decoded'}"
    return f"{record['model']}, {height}x{width}, {how}{marks}"
