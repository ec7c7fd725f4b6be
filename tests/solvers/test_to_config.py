"""Solvers, grids and schedules are restored from their configs to the last bit; strangers' configs run no code."""

import json
import sys
import types
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sadaflow.solvers import (
    EDM,
    SOLVERS,
    Adaptive,
    BrownianNoise,
    Churn,
    CosineVP,
    Euler,
    Grid,
    Preconditioned,
    RectifiedFlow,
    RungeKutta,
    SeededNoise,
    Solver,
    VPDiscrete,
    draws_noise,
    from_config,
    from_scheduler_config,
    make_solver,
    to_config,
)
from sadaflow.solvers.checks.problems import GRIDS, clean, mixture
from sadaflow.solvers.names.config import config_or_reason

NOISES = st.sampled_from([SeededNoise((3, -4)), BrownianNoise((3, 2**63), 5)])
FLOW = Grid.from_t(RectifiedFlow(3.0), torch.linspace(1, 0, 5, dtype=torch.float64))


def again(made: Any) -> Any:
    """What is restored from the JSON text of an object's config."""
    return from_config(json.loads(json.dumps(to_config(made), allow_nan=False)))


def same(first: Any, second: Any) -> bool:
    """Whether two values are equal field by field, tensors to the last bit and with their dtype."""
    if isinstance(first, Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if hasattr(first, "__dataclass_fields__"):
        names = [item.name for item in fields(first)]
        return type(first) is type(second) and all(same(getattr(first, n), getattr(second, n)) for n in names)
    return type(first) is type(second) and bool(first == second)


def end(solver: Solver) -> Tensor:
    """The end of a trajectory on the mixture, without looking at the values."""
    state = solver.start(torch.linspace(-1, 1, 4, dtype=torch.float64).view(2, 2))
    denoise = mixture().denoiser(solver)
    while state.step < solver.n_evals:
        state = solver.step(state, denoise(state.x, state.step))
    return state.x


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(name for name, entry in SOLVERS.items() if entry.solver.__module__ != "stranger")),
    grid=st.sampled_from(sorted(GRIDS)),
    steps=st.integers(2, 7),
    ends=st.booleans(),
    noise=NOISES,
)
def test_every_solver_is_restored_on_every_grid(name: str, grid: str, steps: int, ends: bool, noise: Any) -> None:
    points = clean(GRIDS[grid](steps)) if ends else GRIDS[grid](steps)
    solver = make_solver(name, points, **({"noise": noise} if draws_noise(name) else {}))
    restored = again(solver)
    assert same(solver, restored) and solver.nodes == restored.nodes
    assert torch.equal(end(solver), end(restored))


@settings(max_examples=40, deadline=None)
@given(
    times=st.lists(st.floats(1e-3, 0.999), min_size=2, max_size=9, unique=True),
    schedule=st.one_of(
        st.builds(RectifiedFlow, st.floats(-1e3, 1e3)),
        st.just(CosineVP()),
        st.builds(EDM, st.floats(1e-4, 0.1), st.floats(1, 1e3), st.floats(0.1, 2)),
    ),
    scale=st.floats(allow_nan=False, allow_infinity=False),
)
def test_every_grid_is_restored(times: list[float], schedule: Any, scale: float) -> None:
    grid = Grid.from_t(schedule, sorted(times, reverse=True), start_scale=scale)
    assert same(grid, again(grid)) and same(schedule, again(schedule))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1e-6, 1 - 1e-6), min_size=2, max_size=300, unique=True))
def test_every_noise_table_is_restored(table: list[float]) -> None:
    schedule = VPDiscrete(torch.tensor(sorted(table, reverse=True), dtype=torch.float64))
    assert same(schedule, again(schedule))


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "KDPM2DiscreteScheduler", "FlowMatchHeunDiscreteScheduler"])
def test_what_scheduler_configs_make_is_restored(name: str) -> None:
    solver = from_scheduler_config({"_class_name": name, "num_train_timesteps": 1000}, 12).solver
    restored = again(solver)
    assert same(solver, restored) and torch.equal(end(solver), end(restored))


def test_fields_that_are_objects_are_restored() -> None:
    for made in (
        RungeKutta(GRIDS["edm-karras"](4), SeededNoise((1,)), churn=Churn(40.0)), Preconditioned(0.25),
        Adaptive(RectifiedFlow(), 1.0, 0.01, rtol=1e-5), make_solver("unipc", FLOW, disable_corrector=(0, 2)),
        replace(FLOW, start_scale=float("-inf"), timestep=FLOW.timestep.float()),
    ):  # fmt: skip
        assert same(made, again(made))
    assert to_config(make_solver("euler", FLOW))["class"] == "sadaflow.solvers:Euler"


class Own:
    """A class with its own config."""

    def __init__(self, inner: Any, number: float) -> None:
        self.inner, self.number = inner, number

    def to_config(self) -> dict[str, Any]:
        return {"inner": self.inner, "number": self.number}

    @classmethod
    def from_config(cls, held: dict[str, Any]) -> "Own":
        return cls(**held)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module that can be imported, with the classes of this file."""
    made = types.ModuleType("module_of_configs")
    monkeypatch.setitem(sys.modules, "module_of_configs", made)
    made.Own = Own  # type: ignore[attr-defined]
    monkeypatch.setattr(Own, "__module__", "module_of_configs")
    return made


def test_a_class_may_have_a_config_of_its_own(module: types.ModuleType) -> None:
    found = again(Own(make_solver("euler", FLOW), float("nan")))
    assert type(found) is Own and same(found.inner, Euler(FLOW)) and found.number != found.number
    config = to_config(Own(None, 1.0))
    assert config["class"] == "module_of_configs:Own"
    del sys.modules["module_of_configs"]
    with pytest.raises(ValueError, match="code outside of this library"):
        from_config(config)
    with pytest.raises(ValueError, match="there is no module 'module_of_configs'"):
        from_config(config, trusted=True)


def test_what_cannot_be_stored_is_refused_with_its_field() -> None:
    @dataclass(frozen=True, eq=False)
    class Hidden(Euler):
        pass

    for made, said in (
        (replace(FLOW, between=lambda t: t), r"Grid.between is the function .*<lambda>"),
        (Hidden(FLOW), "Hidden cannot be found by this name: define it at the top of a module"),
        (replace(FLOW, t=FLOW.t.to(torch.bfloat16).sort(descending=True)[0]), "Grid.t is a tensor of torch.bfloat16"),
        (3, "int is a int"), (Euler, "is the function"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            to_config(made)
    reason = config_or_reason(Hidden(FLOW))
    with pytest.raises(ValueError, match="not recorded: .*Hidden cannot be found"):
        from_config(reason)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.sampled_from(
        ["sadaflow.solvers:Grid", "sadaflow.solvers:", "os:system", "float64", {"float": "nan"}, {"list": []}]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["class", "fields", "tensor", "shape", "values", "zlib", "float", "list", "mapping", "x"]),
        inner, max_size=4,
    ),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(data=st.data(), found=JSON)
def test_a_changed_config_is_read_or_refused_by_ValueError(data: st.DataObject, found: Any) -> None:
    config = json.loads(json.dumps(to_config(make_solver("unipc", FLOW, disable_corrector=(0,)))))
    inner = config
    for _ in range(data.draw(st.integers(0, 5))):
        keys = [key for key, value in inner.items() if isinstance(value, dict) and value]
        if not keys:
            break
        inner = inner[data.draw(st.sampled_from(keys))]
    inner[data.draw(st.sampled_from([*inner, "new"]))] = found
    try:
        from_config(config)
    except ValueError as error:
        assert str(error)


def test_a_config_that_is_nested_too_deeply_is_refused() -> None:
    held: Any = None
    for _ in range(3000):
        held = {"list": [held]}
    with pytest.raises(ValueError, match="nested too deeply"):
        from_config({"format": 1, "class": "sadaflow.solvers:Euler", "fields": {"grid": held}})


EULER = to_config(Euler(FLOW))
EULER_GRID = EULER["fields"]["grid"]


def changed(**fields: Any) -> dict[str, Any]:
    return {**EULER, "fields": {"grid": {**EULER_GRID, "fields": {**EULER_GRID["fields"], **fields}}}}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ([], "is a mapping"), ({}, "has format None, this version reads 1"), ({**EULER, "format": 2}, "has format 2"),
        ({"format": 1}, "must hold class and fields, got nothing"), ({**EULER, "more": 1}, "must hold class"),
        ({**EULER, "class": "sadaflow.solvers:Eulr"}, "did you mean 'Euler'"),
        ({**EULER, "class": "subprocess:Popen", "fields": {"args": "true"}}, "not a class that a config can hold"),
        ({**EULER, "class": "os:system"}, "not a class that a config can hold"),
        ({**EULER, "class": "antigravity:X"}, "code outside of this library"),
        ({**EULER, "class": "./evil.py:X"}, "code outside of this library"),
        ({**EULER, "fields": {**EULER["fields"], "gird": 1}}, r"no field 'gird' \(did you mean 'grid'\?\)"),
        ({**EULER, "fields": {}}, "cannot be used: TypeError"),
        (changed(t=[1, 2]), "Grid cannot be used"), (changed(between={"function": "os:abort"}), "must hold class"),
        (changed(t={"tensor": "float64", "shape": [3], "values": [1, 2]}), "Grid.t is not a tensor of a config"),
        (changed(t={"tensor": "float64", "shape": [2**40], "zlib": "eJw="}), "elements"),
        (changed(t={"tensor": "float64", "shape": [2], "zlib": "no base 64"}), "not a tensor of a config"),
        (changed(t={"tensor": "object", "shape": [2], "values": []}), "not a tensor of a config"),
        (changed(t=EULER_GRID["fields"]["timestep"]), "one timestep per step"),
    ],
)  # fmt: skip
def test_a_malformed_or_hostile_config_is_refused(config: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_config(config)
    assert "antigravity" not in sys.modules
