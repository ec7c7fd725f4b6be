"""Mutation testing of solvers/ and accelerators/: changes a sign, an index, a comparison or a number, and runs tests.

    python docs/scripts/mutate.py --sample 200 --seed 0 --out outputs/mutants.jsonl     # `make mutants`
    python docs/scripts/mutate.py --table outputs/mutants.jsonl

Mutants are those of cosmic-ray's operators. Each runs in a fork of a process that has imported torch and diffusers,
with the module's source replaced as it is imported; files stay as they are.
"""

import argparse
import importlib.machinery
import json
import os
import random
import resource
import sys
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from types import CodeType

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 240  # of processor time for the tests of one mutant

PARITY, SIGMA, LAWS = "tests/solvers/test_parity.py", "tests/solvers/test_sigma.py", "tests/solvers/test_sigma_laws.py"
PROPERTIES, CHECKS = "tests/solvers/test_properties.py", "tests/solvers/test_checks.py"
NOISE, ORDER = "tests/solvers/test_noise_start.py", "tests/solvers/test_order.py"
SCHEDULE, CONSISTENCY = "tests/solvers/test_schedule.py", "tests/solvers/test_consistency.py"
FIELD, LEVELS = "tests/solvers/test_field_samplers.py", "tests/solvers/test_levels.py"
INVERSION = "tests/solvers/test_inversion.py"
COMMON = ("tests/solvers/test_weights.py", SCHEDULE, PROPERTIES)

Runs = dict[str, tuple[tuple[str, str], ...]]

# Module -> runs of pytest, one after the other: a file, or a file with the expression that selects its tests.
SOLVERS: Runs = {
    "adams": ((PROPERTIES, ""), (NOISE, "ab or lms"), (LAWS, ""), (SIGMA, "lms"), (CHECKS, "ab or lms or ipndm")),
    "adaptive": ((ORDER, "adaptive"), ("tests/solvers/test_adaptive.py", "")),
    "coordinates": ((PROPERTIES, ""), (NOISE, ""), (LAWS, ""), (SIGMA, "kdpm2 or lms"), (CHECKS, "heun or kdpm2")),
    "ddpm": ((PROPERTIES, ""), (CONSISTENCY, "ddpm"), (CHECKS, "ddpm"), ("tests/solvers/test_distilled.py", "ddpm")),
    "dpmpp": ((PROPERTIES, ""), (NOISE, "dpmpp"), (PARITY, "dpm"), (CHECKS, "dpmpp2m")),
    "dpmpp_sde": ((PROPERTIES, ""), (LAWS, ""), (SIGMA, "sde"), (CHECKS, "dpmpp-sde")),
    "er_sde": ((FIELD, ""), (PROPERTIES, ""), (NOISE, ""), (CHECKS, "er_sde")),
    "euler": ((PROPERTIES, ""), (NOISE, "euler"), (PARITY, "euler"), (CHECKS, "euler")),
    "exponential": ((PROPERTIES, ""), (NOISE, "deis or dpm or exp"), (PARITY, "deis or dpm_solver"),
                    (CHECKS, "deis or dpm2m or dpm3m or exp")),
    "exponential_rk": ((FIELD, ""), (PROPERTIES, ""), (NOISE, ""), (CHECKS, "res or seeds")),
    "gradient_estimation": ((FIELD, ""), (PROPERTIES, ""), (CHECKS, "gradient")),
    "grid": ((SCHEDULE, ""), (PROPERTIES, ""), (NOISE, ""), (LAWS, ""), (INVERSION, ""), (CHECKS, "heun or dpmpp2m")),
    "heunpp": ((FIELD, ""), (PROPERTIES, ""), (INVERSION, "one_way"), (CHECKS, "heunpp2")),
    "ipndm": ((PROPERTIES, ""), (NOISE, "ipndm"), (LAWS, ""), (SIGMA, "ipndm"), (CHECKS, "ipndm")),
    "levels": ((LEVELS, ""),),
    "kdpm2": ((PROPERTIES, ""), (NOISE, "kdpm2"), (LAWS, ""), (SIGMA, "kdpm2 and not linspace"), (CHECKS, "kdpm2")),
    "linear": ((PROPERTIES, ""), (NOISE, ""), (PARITY, "euler or unipc"), (CHECKS, "dpmpp2m or heun or plms")),
    "noise": (("tests/solvers/test_noise.py", ""), (PROPERTIES, ""), (LAWS, "")),
    "plms": ((PROPERTIES, ""), (NOISE, "plms"), (PARITY, "pndm"), (CHECKS, "plms")),
    "points": ((SCHEDULE, ""), (PROPERTIES, ""), (NOISE, ""), (LAWS, ""), (INVERSION, "")),
    "polynomials": (("tests/solvers/test_weights.py", ""), (PROPERTIES, ""), (PARITY, "deis"), (CHECKS, "ab3")),
    "prediction": ((SCHEDULE, ""), (PROPERTIES, ""), (PARITY, "euler"), (NOISE, "refused or heun"),
                   ("tests/solvers/test_sigma_edm.py", "")),
    "runge_kutta": ((PROPERTIES, ""), ("tests/solvers/test_noise.py", "span"), (PARITY, "heun"),
                    (NOISE, "heun or midpoint or rk4 or refused"),
                    (CHECKS, "heun or rk4 or midpoint or churn")),
    "sa_solver": ((PROPERTIES, ""), (NOISE, "sa-solver or treated"), (LAWS, ""), (SIGMA, "sa"), (CHECKS, "sa-solver")),
    "schedule": ((SCHEDULE, ""), (PROPERTIES, ""), (NOISE, "euler"), (CHECKS, "dpmpp2m")),
    "singlestep": ((PROPERTIES, ""), (NOISE, "2s or 3s or treated"), (PARITY, "singlestep"), (CHECKS, "2s or 3s")),
    "tcd": ((PROPERTIES, ""), (CONSISTENCY, "tcd"), ("tests/solvers/test_distilled.py", "tcd")),
    "unipc": ((PROPERTIES, ""), (NOISE, "unipc or treated"), (PARITY, "unipc"), (CHECKS, "unipc")),
    "vp_discrete": ((SCHEDULE, ""), (PROPERTIES, ""), (PARITY, "euler"), (CHECKS, "dpmpp2m")),
}
AUTO, COST, BATCHES, ERRORS, PARTS, SADA, TOKENS, THEOREMS, RUNS, GUIDANCE = (
    f"tests/accelerators/test_{name}.py"
    for name in ("auto", "cost", "batches", "error_model", "parts", "sada", "tokens", "sada_theorems", "runs",
                 "guidance")
)
OUTSIDE, INSIDE, FIT, OF_UNET = (
    f"tests/accelerators/test_rivals_{name}.py" for name in ("outside", "inside", "fit", "unet")
)
SCHEDULED, SERIES, FASTER, GIVEN, WEIGHTS = (
    f"tests/accelerators/test_{name}.py"
    for name in ("rivals_scheduled", "rivals_series", "faster_guidance", "schedule", "predictors")
)
ACCELERATORS: Runs = {
    "auto/auto": ((AUTO, ""), (COST, ""), (BATCHES, ""), (ERRORS, "")),
    "auto/budget": ((COST, ""), (AUTO, ""), (BATCHES, "")),
    "auto/calibration": ((COST, ""),),
    "auto/cost": ((COST, ""), (AUTO, ""), (BATCHES, "")),
    "auto/error_model": ((ERRORS, ""), (AUTO, ""), (COST, ""), (BATCHES, "")),
    "auto/kriging": ((ERRORS, ""), (AUTO, ""), (BATCHES, "")),
    "auto/motion": ((ERRORS, ""), (AUTO, ""), (BATCHES, "")),
    "base": ((PARTS, ""), (RUNS, ""), (GUIDANCE, "")),
    "fitting": ((RUNS, ""), (COST, "calibration")),
    "caching/base": ((INSIDE, ""), (OF_UNET, ""), (BATCHES, ""), (FIT, "")),
    "caching/dbcache": ((SERIES, "dbcache"),),
    "caching/dicache": ((SERIES, "dicache"),),
    "caching/foca": ((SERIES, "forecasts"),),
    "caching/fora": ((SERIES, "forecasts"),),
    "caching/freqca": ((SERIES, "forecasts or dct"),),
    "caching/front": ((INSIDE, "first_block"), (SERIES, "dbcache or dicache"), (FIT, "")),
    "caching/hicache": ((SERIES, "forecasts"),),
    "caching/speca": ((SERIES, "speca"),),
    "caching/series": ((SERIES, "forecasts or unet"),),
    "caching/deepcache": ((OF_UNET, ""), (INSIDE, ""), (FIT, "")),
    "caching/first_block": ((INSIDE, ""), (FIT, "")),
    "caching/magcache": ((INSIDE, ""), (FIT, "")),
    "caching/residual": ((INSIDE, ""), (BATCHES, "")),
    "caching/taylorseer": ((INSIDE, ""), (FIT, "")),
    "caching/teacache": ((INSIDE, ""), (FIT, "")),
    "combined": ((RUNS, ""), (GUIDANCE, ""), (PARTS, "")),
    "history": ((BATCHES, ""), (ERRORS, ""), (AUTO, ""), (OUTSIDE, "")),
    "predictors": ((WEIGHTS, ""), (GIVEN, ""), (SERIES, "forecasts")),
    "replay": ((BATCHES, ""), (AUTO, ""), (ERRORS, "")),
    "sada/criterion": ((SADA, ""), (THEOREMS, ""), (BATCHES, "")),
    "sada/estimators": ((THEOREMS, ""), (SADA, ""), (BATCHES, "")),
    "sada/released": ((SADA, ""), (BATCHES, "")),
    "sada/sada": ((SADA, ""), (TOKENS, ""), (BATCHES, "")),
    "sada/token_cache": ((TOKENS, ""), (SADA, ""), (BATCHES, "")),
    "sada/token_choice": ((TOKENS, ""), (SADA, ""), (BATCHES, "")),
    "settings": (("tests/accelerators/test_settings.py", ""), (PARTS, "")),
    "skipping/adaptive_diffusion": ((OUTSIDE, ""), (BATCHES, ""), (FIT, "")),
    "skipping/base": ((OUTSIDE, ""), (BATCHES, "")),
    "skipping/easycache": ((OUTSIDE, ""), (BATCHES, ""), (FIT, "")),
    "skipping/faster_guidance": ((FASTER, ""),),
    "skipping/guidance": ((GUIDANCE, ""), (BATCHES, "")),
    "skipping/meancache": ((SCHEDULED, "meancache or orders or settings"),),
    "skipping/schedule": ((GIVEN, ""),),
    "skipping/seacache": ((OUTSIDE, ""), (BATCHES, ""), (FIT, "")),
    "skipping/spectrum": ((SCHEDULED, "spectrum or settings"),),
    "skipping/uniform": ((SADA, ""), (AUTO, ""), (OUTSIDE, ""), (PARTS, ""), (BATCHES, "")),
    "skipping/zeus": ((SCHEDULED, "zeus or settings"),),
    "steps/choice": ((GIVEN, ""),),
    "steps/published": ((GIVEN, ""),),
    "steps/rescaling": ((GIVEN, ""),),
    "steps/scm": ((GIVEN, ""),),
    "steps/searched": ((GIVEN, ""),),
    "steps/spectrum_steps": ((GIVEN, ""),),
}
FROZEN = ("tests/test_immutable.py", "")
TESTS: Runs = {
    **{f"solvers/{name}": (*runs, ("tests/solvers/test_settings.py", ""), FROZEN) for name, runs in SOLVERS.items()},
    **{
        f"sadaflow/accelerators/{name}": (*runs, ("tests/accelerators/test_settings.py", ""), FROZEN)
        for name, runs in ACCELERATORS.items()
    },
}
OPERATORS = (
    *(f"core/ReplaceBinaryOperator_{a}_{b}" for a, b in (
        ("Add", "Sub"), ("Sub", "Add"), ("Mul", "Div"), ("Div", "Mul"), ("Add", "Mul"), ("Mul", "Add"), ("Sub", "Div"),
        ("Pow", "Mul"), ("FloorDiv", "Div"), ("Mod", "Div"))),
    *(f"core/ReplaceComparisonOperator_{a}_{b}" for a, b in (
        ("Eq", "NotEq"), ("NotEq", "Eq"), ("Lt", "LtE"), ("Lt", "Gt"), ("LtE", "Lt"), ("LtE", "Gt"), ("Gt", "GtE"),
        ("Gt", "Lt"), ("GtE", "Gt"), ("GtE", "Lt"), ("Is", "IsNot"), ("IsNot", "Is"))),
    "core/ReplaceUnaryOperator_Delete_USub", "core/ReplaceUnaryOperator_Delete_Not", "core/ReplaceAndWithOr",
    "core/ReplaceOrWithAnd", "core/ReplaceTrueWithFalse", "core/ReplaceFalseWithTrue", "core/NumberReplacer",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """An operator applied at one of its places in a module; `line` and `change` say what it does."""

    module: str
    operator: str
    occurrence: int
    line: int
    change: str


def mutated(source: bytes, operator: str, occurrence: int) -> str | None:
    """The source with one mutation, or None if there are not so many places."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    return mutate_code(source, get_operator(operator)(), occurrence)


def places(modules: list[str]) -> list[tuple[str, str, int]]:
    """(module, operator, occurrence) of all mutants of some modules."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator

    found = []
    for module in modules:
        nodes = list(ast_nodes(get_ast((ROOT / f"{module}.py").read_text("utf-8"))))
        for name in OPERATORS:
            operator = get_operator(name)()
            count = sum(len(list(operator.mutation_positions(node))) for node in nodes)
            found += [(module, name, occurrence) for occurrence in range(count)]
    return found


def made(module: str, operator: str, occurrence: int) -> Mutant:
    """A mutant with the line that it changes."""
    source = (ROOT / f"{module}.py").read_bytes()
    text = mutated(source, operator, occurrence) or ""
    pairs = enumerate(zip(source.decode().splitlines(), text.splitlines(), strict=False), 1)
    line, change = next(((n, new) for n, (old, new) in pairs if old != new), (0, ""))
    return Mutant(module, operator.removeprefix("core/"), occurrence, line, change.strip())


def survives(mutant: Mutant) -> bool:
    """Runs the tests of a mutant in a fork; returns whether all pass."""
    child = os.fork()
    if child == 0:
        _run_tests(mutant)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _run_tests(mutant: Mutant) -> None:
    """Ends the process: 0 if every test passes."""
    import pytest

    path = str(ROOT / f"{mutant.module}.py")
    source = mutated(Path(path).read_bytes(), f"core/{mutant.operator}", mutant.occurrence)
    original = importlib.machinery.SourceFileLoader.get_code

    def get_code(self: importlib.machinery.SourceFileLoader, name: str) -> CodeType | None:
        if os.path.realpath(self.get_filename(name)) == path:
            return compile(source or "", path, "exec", dont_inherit=True)
        return original(self, name)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign]
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    code = 1
    try:
        for file, selected in TESTS[mutant.module]:
            chosen = ["-k", selected] if selected else []
            chosen += ["-m", "slow or not slow"] if file == CHECKS else []
            code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", file, *chosen]))
            if code not in (0, 5):
                break
            code = 0
    finally:
        os._exit(code)


def table(path: Path) -> str:
    """The score of each module, and the survivors, as Markdown."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    head, mutants = rows[0], rows[1:]
    by_module: dict[str, Counter[bool]] = defaultdict(Counter)
    for row in mutants:
        by_module[row["module"]][row["survived"]] += 1
    lines = [f"{len(mutants)} mutants drawn with seed {head['seed']} from {head['population']}.", "",
             "| module | mutants | caught |", "|---|---|---|"]  # fmt: skip
    lines += [f"| {name} | {sum(seen.values())} | {seen[False]} |" for name, seen in sorted(by_module.items())]
    caught = sum(seen[False] for seen in by_module.values())
    lines += [f"| all | {len(mutants)} | {caught} ({caught / len(mutants):.1%}) |", ""]
    lines += ["| survivor | becomes |", "|---|---|"]
    lines += [f"| {row['module']}.py:{row['line']} | `{row['change'].replace('|', chr(92) + '|')}` |"
              for row in mutants if row["survived"]]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--module", action="append", default=[], help="a module or a folder, as solvers/grid")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs/mutants.jsonl")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no mutant after this time")
    parser.add_argument("--table", type=Path, help="print the table of a finished run")
    parser.add_argument("--again", type=Path, help="test the survivors of a finished run again, into --out")
    chosen = parser.parse_args()
    if chosen.table:
        print(table(chosen.table))
        return
    import diffusers  # noqa: F401
    import hypothesis  # noqa: F401
    import scipy.integrate  # noqa: F401
    import torch

    torch.set_num_threads(1)
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "docs/scripts")]
    os.chdir(ROOT)
    wanted = tuple(chosen.module) or ("",)
    everything = places([name for name in sorted(TESTS) if name.startswith(wanted)])
    drawn = random.Random(chosen.seed).sample(everything, min(chosen.sample, len(everything)))
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    before = [json.loads(line) for line in chosen.again.read_text().splitlines()] if chosen.again else []
    with chosen.out.open("w") as file:
        file.write(json.dumps(before[0] if before else {"seed": chosen.seed, "population": len(everything)}) + "\n")
        for index, place in enumerate(before[1:] or drawn):
            if isinstance(place, dict):
                caught, mutant = not place.pop("survived"), Mutant(**place)
                if caught:
                    file.write(json.dumps(asdict(mutant) | {"survived": False}) + "\n")
                    continue
            else:
                mutant = made(*place)
            if time.monotonic() - began > 60 * chosen.minutes:
                break
            row = asdict(mutant) | {"survived": survives(mutant)}
            file.write(json.dumps(row) + "\n")
            file.flush()
            if row["survived"]:
                print(f"{index}: {mutant.module}.py:{mutant.line} survives: {mutant.change}", flush=True)
    print(table(chosen.out))


if __name__ == "__main__":
    main()
