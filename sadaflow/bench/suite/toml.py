"""Reads suites from TOML files. docs/bench.md describes the format."""

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sadaflow.solvers.names.settings import nearest
from sadaflow.solvers.registry import draws_noise, known_solver

from ...accelerators import make_accelerator
from ...accelerators.registry import ALIASES
from ...generation.prompt_file import read_prompt_file
from .mixture import ANALYTIC
from .model import FEWER_STEPS, RIVALS, Case, Method, Questions, Sample, Setting, Suite, Timing, frozen

if TYPE_CHECKING:
    from .schema import CaseTable, MethodTable, SuiteTable, TimingTable

_LARGEST = 2**24  # bytes


def shipped_suites() -> dict[str, str]:
    """Returns the text of each suite in the package, by name."""
    folder = resources.files("sadaflow.bench") / "suites"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return {file.name.removesuffix(".toml"): file.read_text("utf-8") for file in files}


def load_suite(name: str, prompts: Path | None = None) -> Suite:
    """Loads a suite of the package, or one from a file.

    Args:
        name: Name of a shipped suite, or path of a TOML file.
        prompts: File with the prompts to sample in place of the suite's (see `sadaflow.generation.prompt_file`). Each
            is sampled with every seed of the suite; if the suite has no seeds, with its own.

    Raises:
        FileNotFoundError: If `name` is neither.
        ValueError: If the file is not a valid suite.
    """
    shipped = shipped_suites()
    given = None if prompts is None else _read_prompts(prompts)
    if name in shipped:
        return parse_suite(shipped[name], name, given)
    path = Path(name)
    if path.suffix != ".toml" or not path.is_file():
        raise FileNotFoundError(
            f"no suite {name!r}{nearest(name, shipped)}: known are {', '.join(shipped)}, or name a .toml file that "
            "exists"
        )
    if (size := path.stat().st_size) > _LARGEST:
        raise ValueError(f"suite {path} has {size} bytes; a suite has at most {_LARGEST}")
    try:
        return parse_suite(path.read_text("utf-8"), path.stem, given)
    except UnicodeDecodeError as error:
        raise ValueError(f"suite {path} is not UTF-8 text: {error}") from error


def parse_suite(text: str, name: str, given: Sequence[Sample] | None = None) -> Suite:
    """Reads a suite from TOML text.

    Args:
        text: Contents of the file.
        name: Name of the suite.
        given: Samples in place of the suite's prompts, and of its seeds if it has none.

    Raises:
        ValueError: If the text is not a valid suite. The message names the table, the key and the value, and says what
            is allowed.
    """
    from .schema import read_tables  # pydantic is slow to import

    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # bad syntax, numbers of thousands of digits, deep nesting
        raise ValueError(f"suite {name} is not valid TOML: {error}") from error
    tables, where = read_tables(values, name), f"suite {name}"
    cases = [
        case
        for number, table in enumerate(tables.case, 1)
        for case in _cases(f"{where}: case {number}", table, tables.model, tables.guidance)
    ]
    _need(len(set(cases)) == len(cases), where, "a case occurs twice; list each solver and number of steps once")
    methods = [_method(f"{where}: method {number}", table, cases) for number, table in enumerate(tables.method, 1)]
    report = tables.report
    suite = Suite(
        name=name,
        text=text,
        samples=_samples(where, tables, cases, given),
        cases=tuple(cases),
        methods=tuple(methods),
        batch=tables.batch,
        questions=Questions(*map(_tuple, (report.speedups, report.levels, report.rivals, report.nearest))),
        timing=None if tables.timing is None else _timing(f"{where}: timing", tables.timing, cases),
        given=given is not None,
        metrics=_tuple(tables.metrics),
        own=_own_samples(where, tables),
        dimensions=frozen(tables.size.model_dump(exclude_none=True)),
    )
    analytic = suite.cases[0].model in ANALYTIC
    _need(not (suite.metrics and analytic), where, "metrics compare pictures, which analytic problems do not have")
    _check_labels(where, suite)
    return suite


def _read_prompts(path: Path) -> list[Sample]:
    entries = read_prompt_file(path)
    if any(entry.negative_prompt is not None for entry in entries):
        raise ValueError(f"prompt file '{path}' has negative prompts, which a bench does not support; remove them")
    return [Sample(entry.prompt, entry.seed) for entry in entries]


def _samples(
    where: str, tables: "SuiteTable", cases: Sequence[Case], given: Sequence[Sample] | None
) -> tuple[Sample, ...]:
    analytic = {case.model in ANALYTIC for case in cases}
    _need(len(analytic) == 1, where, f"analytic problems ({', '.join(ANALYTIC)}) need a suite without checkpoints")
    prompts, seeds = tables.prompts, tables.seeds
    if analytic == {True}:
        _need(given is None, where, "analytic problems have no prompts; leave out the prompt file")
        _need(prompts is None, where, "unknown key 'prompts': analytic problems have none; leave it out")
        prompts = [""]
    elif given is not None:
        prompts = list(dict.fromkeys(sample.prompt for sample in given))
        if seeds is None:
            _need(len(set(given)) == len(given), where, "the prompt file has a prompt twice with the same seed")
            return tuple(given)
    if prompts is None:
        raise ValueError(f"{where}: prompts is missing; list texts, or name a file of them (--prompts FILE)")
    return _pairs(where, prompts, seeds)


def _own_samples(where: str, tables: "SuiteTable") -> dict[str, tuple[Sample, ...]]:
    """Reads the samples of models whose cases have prompts of their own, which a prompt file does not replace."""
    own: dict[str | None, tuple[Sample, ...] | None] = {}
    for number, table in enumerate(tables.case, 1):
        model, here = table.model or tables.model, f"{where}: case {number}"
        found = None if table.prompts is None else _pairs(here, table.prompts, tables.seeds)
        _need(found is None or model not in ANALYTIC, here, f"unknown key 'prompts': {model} has none; leave it out")
        _need(own.setdefault(model, found) == found, here, f"prompts differ from those of another case of {model}")
    return {str(model): found for model, found in own.items() if found is not None}


def _pairs(where: str, prompts: Sequence[str], seeds: Sequence[int] | None) -> tuple[Sample, ...]:
    """Pairs each prompt with each seed."""
    if seeds is None:
        raise ValueError(f"{where}: seeds is missing; it is a list of whole numbers, each at least 0, not empty")
    for name, values in (("prompts", prompts), ("seeds", seeds)):
        _need(len(set(values)) == len(values), where, f"{name} holds an entry twice")
    return tuple(Sample(prompt, seed) for prompt in prompts for seed in seeds)


def _cases(where: str, table: "CaseTable", model: str | None, guidance: float | None) -> list[Case]:
    model = table.model or model
    guidance = guidance if table.guidance is None else table.guidance
    if model is None:
        raise ValueError(f"{where}: a model is missing: a Hub id, a folder, tiny-sd, or {', '.join(ANALYTIC)}")
    _need(guidance is None or model not in ANALYTIC, where, f"{model} has no guidance; leave it out")
    for solver in table.solvers:
        _check_solver(where, solver)
    return [Case(model, solver, steps, guidance) for solver in table.solvers for steps in table.steps]


def _check_solver(where: str, solver: Any) -> None:
    _need(isinstance(solver, str), where, f"solver must be a name, got {solver!r}")
    try:
        known_solver(solver)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    _need(not draws_noise(solver), where, f"{solver!r} draws noise at every step, so runs cannot be compared")


def _method(where: str, table: "MethodTable", cases: Sequence[Case]) -> Method:
    accelerator = ALIASES.get(table.accelerator, table.accelerator)
    steps = _steps(where, table.steps, cases)
    known = list(dict.fromkeys(case.model for case in cases))
    models = known if table.models is None else table.models
    for model in models:
        _known(where, "model", model, known)
    method, settings = table.name or accelerator, []
    for number, arguments in enumerate(table.settings, 1):
        _check_arguments(f"{where}: setting {number}", arguments, accelerator, min(steps))
        settings.append(Setting(method, accelerator, frozen(arguments)))
    return Method(method, tuple(settings), steps, tuple(models))


def _check_arguments(where: str, arguments: Mapping[str, Any], accelerator: str, least: int) -> None:
    """Checks the arguments of a setting.

    Args:
        where: Start of messages.
        arguments: Keyword arguments of the setting.
        accelerator: Name of the accelerator or plain rival.
        least: Least number of steps of the cases that the method runs on.
    """
    if accelerator in RIVALS:
        known = ("steps", "solver") if accelerator == FEWER_STEPS else ("steps",)
        for name in arguments:
            _need(name in known, where, f"{accelerator} has no setting {name!r}; known: {', '.join(known)}")
        _need("steps" in arguments, where, "steps is missing; it is a whole number, at least 1")
        steps = arguments["steps"]
        whole = isinstance(steps, int) and not isinstance(steps, bool) and steps >= 1
        _need(whole, where, f"steps must be a whole number, at least 1, got {steps!r}")
        _need(steps <= least, where, f"steps = {steps}, more than the {least} of a case of the method")
        if "solver" in arguments:
            _check_solver(where, arguments["solver"])
        return
    try:
        make_accelerator(accelerator, **dict(frozen(arguments)))
    except ValueError as error:
        raise ValueError(f"{where}: {error}; baselines are {', '.join(RIVALS)}") from error


def _timing(where: str, table: "TimingTable", cases: Sequence[Case]) -> Timing:
    steps = _steps(where, table.steps, cases)
    return Timing(_tuple(table.settings), steps, table.rounds, table.samples, table.batch, table.always)


def _steps(where: str, chosen: Sequence[int] | None, cases: Sequence[Case]) -> tuple[int, ...]:
    """Returns the numbers of steps chosen, which cases must have; those of all cases if none are chosen."""
    known = sorted({case.steps for case in cases}, reverse=True)
    for steps in chosen or ():
        _need(steps in known, where, f"no case has {steps} steps; they have {', '.join(map(str, known))}")
    return tuple(known if chosen is None else chosen)


def _check_labels(where: str, suite: Suite) -> None:
    for case in suite.cases:
        labels = [setting.label for setting in suite.settings(case)]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        _need(not twice, where, f"setting {', '.join(twice)!r} occurs twice at {case.steps} steps")
    known = sorted({setting.label for case in suite.cases for setting in suite.settings(case)})
    for label in suite.questions.rivals:
        _known(f"{where}: report: rivals", "setting", label, known)
    for label in () if suite.timing is None else suite.timing.settings:
        _known(f"{where}: timing: settings", "setting", label, known)


def _known(where: str, what: str, name: str, known: Sequence[str]) -> None:
    _need(name in known, where, f"unknown {what} {name!r}; known: {', '.join(known)}")


def _need(truth: bool, where: str, message: str) -> None:
    if not truth:
        raise ValueError(f"{where}: {message}")


def _tuple(values: Sequence[Any] | None) -> tuple[Any, ...]:
    return tuple(values or ())
