"""Suites out of TOML files; docs/bench.md describes the format. Every error names the place and what would do."""

import inspect
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from sadaflow.solvers.registry import draws_noise, known_solver

from ...accelerators.registry import ACCELERATORS, ALIASES
from ...generation.prompt_file import read_prompt_file
from .model import RIVALS, Case, Method, Questions, Sample, Setting, Suite, Timing, frozen
from .subjects import ANALYTIC

_REQUIRED: Any = object()
_Check = Callable[[Any], bool]


def shipped_suites() -> dict[str, str]:
    """Texts of the suites in the package, by name."""
    folder = resources.files("sadaflow.bench") / "suites"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return {file.name.removesuffix(".toml"): file.read_text("utf-8") for file in files}


def load_suite(name: str, prompts: Path | None = None) -> Suite:
    """The suite of the package called `name`, or that in the TOML file at this path.

    With `prompts`, those in this file (see `sadaflow.generation.prompt_file`) take the place of the suite's: each with
    every seed of the suite, or where it has none, with its own.
    """
    shipped = shipped_suites()
    given = None if prompts is None else _read_prompts(prompts)
    if name in shipped:
        return parse_suite(shipped[name], name, given)
    path = Path(name)
    if path.suffix != ".toml" or not path.is_file():
        raise FileNotFoundError(f"no suite {name!r}: known are {', '.join(shipped)}, or name a .toml file that exists")
    try:
        return parse_suite(path.read_text("utf-8"), path.stem, given)
    except UnicodeDecodeError as error:
        raise ValueError(f"suite {path} is not UTF-8 text: {error}") from error


def parse_suite(text: str, name: str, given: Sequence[Sample] | None = None) -> Suite:
    """The suite in a TOML text, with `given` samples in place of its own prompts, and of its seeds if it has none.

    Raises ValueError naming the place, the value and what is allowed there.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"suite {name} is not valid TOML: {error}") from error
    top = _Section(f"suite {name}", values)
    model, guidance = top.text("model", ""), top.number("guidance", None)
    cases = [
        case for index, entry in enumerate(top.tables("case"), 1)
        for case in _cases(top.at(f"case {index}", entry), model, guidance)
    ]  # fmt: skip
    top.need(len(set(cases)) == len(cases), "a case occurs twice; each solver and number of steps once a model")
    steps = {case.steps for case in cases}
    methods = [
        _method(top.at(f"method {index}", entry), cases) for index, entry in enumerate(top.tables("method"), 1)
    ]  # fmt: skip
    questions = _questions(top.at("report", top.table("report")))
    timing = top.table("timing", None)
    suite = Suite(
        name=name,
        text=text,
        samples=_samples(top, cases, given),
        cases=tuple(cases),
        methods=tuple(methods),
        batch=top.whole("batch", 8),
        questions=questions,
        timing=None if timing is None else _timing(top.at("timing", timing), steps),
        given=given is not None,
        metrics=tuple(top.texts("metrics", ())),
    )
    analytic = suite.cases[0].model in ANALYTIC
    top.need(not (suite.metrics and analytic), "metrics look at pictures, which analytic problems have none of")
    top.done()
    _check_labels(top, suite)
    return suite


def _read_prompts(path: Path) -> list[Sample]:
    entries = read_prompt_file(path)
    if any(entry.negative is not None for entry in entries):
        raise ValueError(f"prompt file '{path}' has negative prompts, which a bench does not take; leave them out")
    return [Sample(entry.text, entry.seed) for entry in entries]


def _samples(top: "_Section", cases: list[Case], given: Sequence[Sample] | None) -> tuple[Sample, ...]:
    analytic = {case.model in ANALYTIC for case in cases}
    top.need(len(analytic) == 1, f"analytic problems ({', '.join(ANALYTIC)}) need a suite without checkpoints")
    if given is None:
        missing = "prompts is missing; it is a list of texts, not empty, or name a file of them (--prompts FILE)"
        top.need("prompts" in top.values or analytic == {True}, missing)
        prompts = [""] if analytic == {True} else top.texts("prompts")
        seeds = top.wholes("seeds", least=0)
    else:
        top.need(analytic == {False}, "analytic problems know no prompts; leave the file out")
        top.texts("prompts", ())
        prompts, seeds = list(dict.fromkeys(sample.prompt for sample in given)), top.wholes("seeds", (), least=0)
        if not seeds:
            top.need(len(set(given)) == len(given), "the prompt file has a prompt twice with the same seed")
            return tuple(given)
    for name, values in (("prompts", prompts), ("seeds", seeds)):
        top.need(len(set(values)) == len(values), f"{name} holds an entry twice")
    return tuple(Sample(prompt, seed) for prompt in prompts for seed in seeds)


def _cases(part: "_Section", model: str, guidance: float | None) -> list[Case]:
    model, guidance = part.text("model", model), part.number("guidance", guidance)
    part.need(bool(model), "a model is missing: a Hub id, a folder, tiny-sd, or " + ", ".join(ANALYTIC))
    part.need(guidance is None or model not in ANALYTIC, f"guidance means nothing to {model}; leave it out")
    solvers, steps = part.texts("solvers"), part.wholes("steps")
    for solver in solvers:
        part.tried(lambda: known_solver(solver))  # noqa: B023
        part.need(not draws_noise(solver), f"{solver!r} draws noise at every step, so that runs cannot be compared")
    part.done()
    return [Case(model, solver, count, guidance) for solver in solvers for count in steps]


def _method(part: "_Section", cases: list[Case]) -> Method:
    name = part.text("accelerator")
    name = ALIASES.get(name, name)
    part.need(name in ACCELERATORS or name in RIVALS, _unknown("accelerator", name, [*ACCELERATORS, *RIVALS]))
    counts = sorted({case.steps for case in cases}, reverse=True)
    steps = part.wholes("steps", default=counts)
    for count in steps:
        part.need(count in counts, f"no case has {count} steps; they have {', '.join(map(str, counts))}")
    known = list(dict.fromkeys(case.model for case in cases))
    models = part.texts("models", known)
    for model in models:
        part.need(model in known, _unknown("model", model, known))
    settings = []
    method = part.text("name", name)
    for index, arguments in enumerate(part.tables("settings", [{}]), 1):
        _check_arguments(part.at(f"setting {index}", arguments), name, min(steps))
        settings.append(Setting(method, name, frozen(arguments)))
    part.done()
    return Method(method, tuple(settings), tuple(steps), tuple(models))


def _check_arguments(part: "_Section", name: str, most: int) -> None:
    """Refuse what the accelerator `name`, or a rival of runs with `most` steps, would not take."""
    if name in RIVALS:
        steps = part.whole("steps")
        part.need(steps <= most, f"steps = {steps}, more than the {most} of a case that the method runs on")
        part.done(f"{name} has no argument", ["steps"])
        return
    known = list(inspect.signature(ACCELERATORS[name]).parameters)
    for argument in part.values:
        part.need(argument in known, f"{name} has no argument {argument!r}; known: {', '.join(known)}")
    part.tried(lambda: ACCELERATORS[name](**dict(frozen(part.values))))


def _questions(part: "_Section") -> Questions:
    default = Questions()
    questions = Questions(
        tuple(part.numbers("speedups", default.speedups)),
        tuple(part.numbers("levels", default.levels)),
        tuple(part.texts("rivals", default.rivals)),
        tuple(part.numbers("nearest", default.nearest)),
    )
    for name, values in (("speedups", questions.speedups), ("nearest", questions.nearest)):
        part.need(all(value >= 1 for value in values), f"{name} must be at least 1")
    part.done()
    return questions


def _timing(part: "_Section", steps: set[int]) -> Timing:
    timing = Timing(
        settings=tuple(part.texts("settings", ())),
        steps=tuple(part.wholes("steps", default=sorted(steps, reverse=True))),
        rounds=part.whole("rounds", 5),
        samples=part.whole("samples", 2),
        batch=part.whole("batch", 1),
        always=part.truth("always", False),
    )
    for count in timing.steps:
        part.need(count in steps, f"no case has {count} steps; they have {', '.join(map(str, sorted(steps)))}")
    part.done()
    return timing


def _check_labels(top: "_Section", suite: Suite) -> None:
    for case in suite.cases:
        labels = [setting.label for setting in suite.settings(case)]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        top.need(not twice, f"setting {', '.join(twice)!r} occurs twice at {case.steps} steps")
    known = {setting.label for case in suite.cases for setting in suite.settings(case)}
    for place, wanted in (("report: rivals", suite.questions.rivals), ("timing: settings", _timed(suite))):
        for label in wanted:
            top.need(label in known, f"{place}: {_unknown('setting', label, sorted(known))}")


def _timed(suite: Suite) -> tuple[str, ...]:
    return () if suite.timing is None else suite.timing.settings


def _unknown(what: str, name: str, known: list[str]) -> str:
    return f"unknown {what} {name!r}; known: {', '.join(known)}"


class _Section:
    """A table of the file, read key by key; what is left over at the end is refused."""

    def __init__(self, place: str, values: Mapping[str, Any]) -> None:
        self.place, self.values = place, values
        self._read: list[str] = []

    def at(self, place: str, values: Mapping[str, Any]) -> "_Section":
        return _Section(f"{self.place}: {place}", values)

    def need(self, truth: bool, message: str) -> None:
        if not truth:
            raise ValueError(f"{self.place}: {message}")

    def tried(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.place}: {error}") from error

    def done(self, message: str = "unknown key", known: list[str] | None = None) -> None:
        for key in self.values:
            self.need(key in self._read, f"{message} {key!r}; known: {', '.join(known or self._read)}")

    def text(self, key: str, default: Any = _REQUIRED) -> str:
        return str(self._get(key, default, "a text", _is_text))

    def texts(self, key: str, default: Any = _REQUIRED) -> list[str]:
        return list(self._get(key, default, "a list of texts, not empty", _list_of(_is_text)))

    def whole(self, key: str, default: Any = _REQUIRED) -> int:
        return int(self._get(key, default, "a whole number, at least 1", _is_whole(1)))

    def wholes(self, key: str, default: Any = _REQUIRED, least: int = 1) -> list[int]:
        what = f"a list of whole numbers, each at least {least}, not empty"
        return list(self._get(key, default, what, _list_of(_is_whole(least))))

    def number(self, key: str, default: Any = _REQUIRED) -> float | None:
        value = self._get(key, default, "a finite number", _is_number)
        return None if value is None else float(value)

    def numbers(self, key: str, default: Any = _REQUIRED) -> list[float]:
        return list(map(float, self._get(key, default, "a list of finite numbers, not empty", _list_of(_is_number))))

    def truth(self, key: str, default: Any = _REQUIRED) -> bool:
        return bool(self._get(key, default, "true or false", lambda value: isinstance(value, bool)))

    def table(self, key: str, default: Any = {}) -> Any:  # noqa: B006 (only read)
        return self._get(key, default, "a table", _is_table)

    def tables(self, key: str, default: Any = _REQUIRED) -> list[Mapping[str, Any]]:
        return list(self._get(key, default, "a list of tables, not empty", _list_of(_is_table)))

    def _get(self, key: str, default: Any, what: str, fits: _Check) -> Any:
        self._read.append(key)
        if key not in self.values:
            self.need(default is not _REQUIRED, f"{key} is missing; it is {what}")
            return default
        self.need(fits(self.values[key]), f"{key} must be {what}, got {self.values[key]!r}")
        return self.values[key]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_whole(least: int) -> _Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _list_of(fits: _Check) -> _Check:
    return lambda value: isinstance(value, list) and bool(value) and all(map(fits, value))
