"""Accelerators by name with settings, registered, and restored from their configs."""

import json
import math
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sadaflow import SADA, Auto, Uniform, sample
from sadaflow.accelerators import (
    ACCELERATORS,
    Combined,
    DeepCache,
    Guidance,
    Run,
    from_config,
    make_accelerator,
    register_accelerator,
    to_config,
)
from sadaflow.accelerators.registry import REGISTRY
from sadaflow.loading.embedded import embedded
from sadaflow.pipeline.calibrations import NAME, read_calibrations
from sadaflow.solvers import Grid, Preconditioned, RectifiedFlow, make_solver
from sadaflow.solvers.checks.problems import mixture
from support.stranger import registries_restored


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with registries_restored(monkeypatch):
        yield


@dataclass(frozen=True)
class Own:
    """An accelerator of the test."""

    every: int = 2

    def begin(self, solver: Any, shape: torch.Size, *, seams: bool) -> Run:
        return Uniform(self.every).begin(solver, shape, seams=seams)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("auto budget=25", Auto(budget=25.0)), ("deepcache interval=5", DeepCache(interval=5)),
        ("sada tokens=false + guidance", Combined(SADA(tokens=False), Guidance())),
        ("uniform every=3+guidance every=4 order=0", Combined(Uniform(3), Guidance(every=4, order=0))),
        ("paper estimator=ab3", SADA(estimator="ab3")), ("auto memories=0.1,0.2", Auto(memories=(0.1, 0.2))),
        ("sada weights=none", SADA()), ("guidance reuse=v_prediction", Guidance(reuse="v_prediction")),
    ],
)  # fmt: skip
def test_a_name_has_settings(name: str, made: Any) -> None:
    assert make_accelerator(name) == made


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("auto budgt=25", r"Auto has no setting 'budgt' \(did you mean 'budget'\?\); known: tolerance, speedup"),
        ("auto budget=many", "Auto.budget must be a number or none, got 'many'"),
        ("sada tokens=1", "SADA.tokens must be true or false, got '1'"),
        ("deepcache interval=2.5", "DeepCache.interval must be a whole number, got '2.5'"),
        ("deepcache interval=0", "DeepCache.interval must be at least"),
        ("auto calibration=x", r"Auto.calibration must be a Calibration \(in Python\) or none"),
        ("warp", "unknown accelerator 'warp'; known are adaptive-diffusion, auto"), ("a+b+c", "names 3; two"),
        ("unifrm every=2", r"unknown accelerator 'unifrm'.*did you mean 'uniform'\?"),
        ("uniform every=2 every=3", "gives every twice"), ("uniform + ", "does not begin with a name"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_accelerator(name)


def test_settings_of_python_are_those_of_text() -> None:
    assert make_accelerator("uniform", every=3) == make_accelerator("uniform every=3") == Uniform(3)
    assert make_accelerator("sada", tokens=False) == SADA(tokens=False)
    for name, given_, said in (
        ("uniform every=3", {"every": 2}, "every is given twice"), ("uniform", {"evry": 2}, "has no setting 'evry'"),
        ("uniform+guidance", {"every": 2}, "names two"), ("sada", {"tokens": "maybe"}, "true or false"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            make_accelerator(name, **given_)


def test_a_registered_accelerator_works_by_name() -> None:
    register_accelerator("own", Own)
    solver = make_solver("euler", Grid.from_t(RectifiedFlow(), torch.linspace(1, 0, 13, dtype=torch.float64)))
    denoise, noise = mixture().denoiser(solver), torch.ones(1, 2, dtype=torch.float64)
    assert (
        sample(solver, denoise, noise, "own every=3").stats.nfe == sample(solver, denoise, noise, Uniform(3)).stats.nfe
    )
    assert make_accelerator("own + guidance") == Combined(Own(), Guidance())
    for name, said in (
        ("sada", "built into sadaflow"), ("paper", "another name of 'sada'"), ("none", "the name of sampling without"),
        ("sub-grid", "baseline in suites"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            register_accelerator(name, Own)
    for wrong, said in ((Own(), "cannot be called"), (dict, "dict is not an accelerator, it lacks begin")):
        with pytest.raises(ValueError, match=said):
            register_accelerator("wrong", wrong)  # type: ignore[arg-type]
    register_accelerator("makes-three", lambda: 3)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="'makes-three' is a int, which lacks begin"):
        make_accelerator("makes-three")


def test_a_run_without_its_methods_is_refused_when_it_begins() -> None:
    class Broken:
        def begin(self, solver: Any, shape: torch.Size, *, seams: bool) -> Any:
            return 3

    solver = make_solver("euler", Grid.from_t(RectifiedFlow(), torch.linspace(1, 0, 5, dtype=torch.float64)))
    with pytest.raises(ValueError, match="Broken.begin returned a int, which lacks plan, estimate, seam, revise, obs"):
        sample(solver, mixture().denoiser(solver), torch.ones(1, 2, dtype=torch.float64), Broken())


def values(kind: Any, default: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type, near what the field allows."""
    options = getattr(kind, "__args__", ()) if "|" in str(kind) else (kind,)
    near = [st.just(default)]
    for option in options:
        if option is bool:
            near.append(st.booleans())
        elif option is int:
            near.append(st.integers(0, 9))
        elif option is float:
            near += [st.floats(0, 1), st.floats(0.5, 30)]
        elif option is type(None):
            near.append(st.none())
        elif option is str and default in (None, "epsilon"):
            near.append(st.sampled_from(["epsilon", "v_prediction", "sample"]))
        elif option is Preconditioned:
            near.append(st.builds(Preconditioned, st.floats(0.1, 2)))
        elif str(option).startswith("tuple[float"):
            near.append(st.lists(st.floats(0.1, 3), min_size=1, max_size=4).map(tuple))
        elif str(option).startswith("tuple[int"):
            near.append(st.lists(st.integers(0, 9), max_size=4).map(tuple))
    return st.one_of(near)


@settings(max_examples=120, deadline=None)
@given(name=st.sampled_from(sorted(REGISTRY.built_in)), data=st.data())
def test_every_accelerator_is_restored_from_its_config_and_from_its_name(name: str, data: st.DataObject) -> None:
    kind: Any = ACCELERATORS[name]
    hints, made = get_type_hints(kind), kind()
    for item in data.draw(st.lists(st.sampled_from(fields(kind)), max_size=4, unique_by=lambda item: item.name)):
        assert item.default is not MISSING
        value = data.draw(values(hints[item.name], item.default), label=item.name)
        try:
            made = replace(made, **{item.name: value})
        except ValueError:
            assume(item.name not in ("tokens", "correct", "uniform"))
    assert from_config(json.loads(json.dumps(to_config(made), allow_nan=False))) == made
    combined = Combined(made, Guidance(every=3))
    assert from_config(json.loads(json.dumps(to_config(combined)))) == combined
    assert make_accelerator(written(name, made)) == made


def written(name: str, made: Any) -> str:
    """The text of an accelerator with all settings that text can give."""
    given_ = []
    for item in fields(made):
        value = getattr(made, item.name)
        if isinstance(value, Preconditioned):
            assume(False)
        text = f"({', '.join(map(repr, value))})" if isinstance(value, tuple) else str(value)
        given_.append(f"{item.name}={text}")
    return " ".join([name, *given_])


def test_a_calibration_is_part_of_the_config() -> None:
    calibration = read_calibrations(Path(embedded("tiny-sd")) / NAME)[0]
    made = Auto(speedup=2.0, calibration=calibration)
    found = from_config(json.loads(json.dumps(to_config(made), allow_nan=False)))
    assert found == made and math.isclose(found.calibration.guidance, calibration.guidance)
