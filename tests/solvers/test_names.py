"""Names with settings, registries, entry points and locations."""

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sadaflow.solvers import (
    SOLVERS,
    DPMpp,
    Euler,
    Grid,
    RectifiedFlow,
    SeededNoise,
    draws_noise,
    from_config,
    make_solver,
    register_solver,
    to_config,
)
from sadaflow.solvers.names.registry import Kind, Registry
from sadaflow.solvers.names.settings import known_settings
from sadaflow.solvers.names.text import read_named, split_list, split_sum
from sadaflow.solvers.registry import REGISTRY
from support.stranger import install, registries_restored

GRID = Grid.from_t(RectifiedFlow(), torch.linspace(1, 0, 7, dtype=torch.float64))


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = set(sys.modules)
    with registries_restored(monkeypatch):
        yield
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) is not None and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Every:
    """A field of each type that text can give."""

    flag: bool = False
    count: int = 1
    share: float = 0.5
    name: str = "a"
    limit: int | None = 3
    label: str | None = None
    many: tuple[float, ...] = ()
    pair: tuple[int, str] = (1, "a")
    items: list[int] = field(default_factory=list)
    way: Literal["up", "down"] = "up"
    colour: Colour = Colour.RED
    other: threading.Thread | None = None
    guess: Any = None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("flag=true", True), ("flag=False", False), ("count=-3", -3), ("share=1e-3", 1e-3), ("share=2", 2.0),
        ("share=inf", float("inf")), ("share=1e+3", 1000.0), ("name=true", "true"), ("name='two words'", "two words"),
        ('name="a+b"', "a+b"), ("name=''", ""), ("limit=none", None), ("limit=None", None), ("limit=4", 4),
        ("label=none", None), ("label='none'", "none"), ("many=1,2.5", (1.0, 2.5)), ("many=(1, 2.5)", (1.0, 2.5)),
        ("many=[]", ()), ("many=1", (1.0,)), ("pair=2,'b,c'", (2, "b,c")), ("items=[1, 2]", [1, 2]),
        ("way=down", "down"), ("colour=red", Colour.RED), ("other=none", None), ("guess=[1, 2]", (1, 2)),
        ("guess=word", "word"), ("guess=true", True), ("guess=1.5", 1.5),
    ],
)  # fmt: skip
def test_a_value_is_read_by_the_type_of_its_field(text: str, value: Any) -> None:
    named = read_named(f"every {text}", "thing")
    (read,) = known_settings(Every).read(dict(named.settings), written=True).values()
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flag=0", "Every.flag must be true or false, got '0'"),
        ("count=2.5", "Every.count must be a whole number, got '2.5'"),
        ("count=1_0", "Every.count must be a whole number"),
        ("share=fast", "Every.share must be a number, got 'fast'"),
        ("limit=x", "Every.limit must be a whole number or none, got 'x'"),
        ("many=1,x", "Every.many must be numbers separated by commas, got '1,x'"),
        ("pair=1", "Every.pair must be 2 whole numbers separated by commas"),
        ("way=left", "Every.way must be up or down, got 'left'"),
        ("colour=blue", "Every.colour must be red, got 'blue'"),
        ("other=x", r"Every.other must be a Thread \(in Python\) or none, got 'x'"),
        ("cuont=1", r"Every has no setting 'cuont' \(did you mean 'count'\?\); known: flag, count"),
    ],
)
def test_a_wrong_setting_is_refused_with_class_field_and_value(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        known_settings(Every).read(dict(read_named(f"every {text}", "thing").settings), written=True)


def test_values_of_python_stay_what_they_are_where_they_fit() -> None:
    def read(**given: Any) -> dict[str, Any]:
        return known_settings(Every).read(given, written=False)

    assert read(label="none", many=[1, 2], count="3") == {"label": "none", "many": (1, 2), "count": 3}
    assert read(flag="true") == {"flag": True}, "a string that is true for Python would be true for 'false' too"
    for wrong in ({"flag": 1}, {"count": True}, {"share": False}, {"flag": "no"}):
        with pytest.raises(ValueError, match="Every"):
            read(**wrong)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "does not begin with a name"), ("a=1", "does not begin with a name"), ("x a", "must be setting=value"),
        ("x a=", "must be setting=value"), ("x a = 1", "without spaces"), ("x a=1 a=2", "gives a twice"),
        ("x a='b", "lacks a closing '"), ("x a=(1,2", r"lacks a closing \)"),
    ],
)  # fmt: skip
def test_a_malformed_name_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_named(text, "thing")


def test_what_is_no_text_is_refused() -> None:
    for read in (read_named, split_sum):
        with pytest.raises(ValueError, match="name of a thing is a text, got 3"):
            read(3, "thing")  # type: ignore[arg-type]


def test_names_are_joined_by_plus_and_numbers_are_not() -> None:
    assert split_sum("uniform+guidance", "x") == ["uniform", "guidance"]
    assert split_sum("a x=1e+3 + ./b.py:B y='c + d'", "x") == ["a x=1e+3 ", " ./b.py:B y='c + d'"]
    assert split_list("((1, 2), 3)", "x") == split_list("(1, 2), 3", "x") == ["(1, 2)", "3"]
    assert split_list("", "x") == split_list("()", "x") == [] and split_list("(1,2),(3,4)", "x") == ["(1,2)", "(3,4)"]


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_by_ValueError(text: str) -> None:
    try:
        make_solver(text.replace(":", ""), GRID)
    except ValueError as error:
        assert str(error)


def test_a_solver_has_its_settings_by_name_everywhere() -> None:
    made = make_solver("dpmpp2m eta=0.5", GRID, noise=SeededNoise((0,)), euler_at_final=True)
    assert isinstance(made, DPMpp) and (made.eta, made.solver_order, made.euler_at_final) == (0.5, 2, True)
    assert draws_noise("dpmpp2m eta=0.5") and not draws_noise("dpmpp2m-sde eta=0")
    with pytest.raises(ValueError, match="eta is given twice"):
        make_solver("dpmpp2m eta=0.5", GRID, eta=0.1)
    with pytest.raises(ValueError, match="DPMpp has no setting 'order'"):
        make_solver("dpmpp2m", GRID, order=2)
    with pytest.raises(ValueError, match="no setting 'noise'"):
        make_solver("dpmpp2m noise=3", GRID)


@dataclass(frozen=True, eq=False)
class Mine(Euler):
    """A solver of the test."""

    shift: float = 0.0


@dataclass(frozen=True, eq=False)
class Other(Euler):
    """Another."""


def test_a_registered_solver_is_known_and_cannot_be_replaced_by_accident() -> None:
    register_solver("mine", Mine)
    assert "mine" in SOLVERS and list(SOLVERS)[-1] == "mine" and SOLVERS["mine"].solver is Mine
    assert make_solver("mine shift=2", GRID).shift == 2.0  # type: ignore[attr-defined]
    register_solver("mine", Mine)
    with pytest.raises(ValueError, match="registered as Mine of .*; replace=True puts Other of"):
        register_solver("mine", Other)
    register_solver("mine", Other, replace=True)
    assert isinstance(make_solver("mine", GRID), Other)
    for name, said in (
        ("euler", "'euler' is built into sadaflow and cannot be that of Mine"),
        ("no spaces", "must be letters"), ("a:b", "must be letters"), ("1st", "beginning with a letter"), ("", "must"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            register_solver(name, Mine, replace=True)
    for wrong, said in ((3, "cannot be called"), (str, "lacks start, step, velocity")):
        with pytest.raises(ValueError, match=said):
            register_solver("wrong", wrong)
    assert "wrong" not in SOLVERS


def test_a_solver_that_draws_noise_says_so_by_its_parameter() -> None:
    def noisy(grid: Grid, noise: Any = None) -> Any:
        return make_solver("euler-ancestral", grid, noise=noise)

    def still(grid: Grid, noise: Any = None) -> Any:
        return Mine(grid)

    still.stochastic = False  # type: ignore[attr-defined]
    for name, make in (("noisy", noisy), ("still", still), ("plain", Mine)):
        register_solver(name, make)
    assert [draws_noise(name) for name in ("noisy", "still", "plain")] == [True, False, False]


def test_what_a_strangers_class_does_wrong_is_one_clear_error() -> None:
    def fails(grid: Grid) -> Any:
        raise RuntimeError("boom\nand more")

    register_solver("fails", fails)
    register_solver("other-thing", lambda grid: 3)
    with pytest.raises(ValueError, match="^solver 'fails': fails cannot be made: RuntimeError: boom$"):
        make_solver("fails", GRID)
    with pytest.raises(ValueError, match="is a int, which lacks grid, order, nodes, n_evals, start, step, velocity"):
        make_solver("other-thing", GRID)


def test_a_class_is_found_in_a_module_and_in_a_file(tmp_path: Path) -> None:
    text = (
        "from dataclasses import dataclass\nfrom sadaflow.solvers import Euler\n\n\n@dataclass(frozen=True, eq=False)\n"
    )
    (tmp_path / "lib_of_a_test.py").write_text(text + "class Own(Euler):\n    shift: int = 1\n")
    (tmp_path / "breaks.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "needs.py").write_text("import module_that_is_missing\n")
    for name in (
        "lib_of_a_test:Own shift=2",
        "./lib_of_a_test.py:Own shift=2",
        f"{tmp_path}/lib_of_a_test.py:Own shift=2",
    ):
        made = make_solver(name, GRID)
        assert made.shift == 2  # type: ignore[attr-defined]
        assert type(from_config(to_config(made))) is type(made)
    assert to_config(made)["class"] == "./lib_of_a_test.py:Own"
    for name, said in (
        ("lib_of_a_test:Onw", r"has no 'Onw' \(did you mean 'Own'\?\)"), ("no_module:X", "no module 'no_module'"),
        ("no_module.sub:X", "no module 'no_module'"), ("breaks:X", "breaks cannot be imported: SystemExit: 3"),
        ("needs:X", "cannot be imported: ModuleNotFoundError: No module named 'module_that_is_missing'"),
        ("./none.py:X", "no file './none.py'"), (":X", "module:Name"), ("a b:X", "must be setting=value"),
        ("lib_of_a_test:", "module:Name"), ("./breaks:X", "a file is written ./file.py:Name"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            make_solver(name, GRID)


def test_an_entry_point_of_a_taken_name_is_refused_by_both_names(tmp_path: Path) -> None:
    install(
        tmp_path / "one",
        "[sadaflow.solvers]\neuler = one.solver:Extrapolated\ntwice = one.solver:Extrapolated\n",
        "one",
    )
    install(tmp_path / "two", "[sadaflow.solvers]\ntwice = two.solver:Extrapolated\n", "two")
    sys.path[:0] = [str(tmp_path / "one"), str(tmp_path / "two")]
    try:
        REGISTRY.reread()
        with pytest.raises(ValueError, match=r"'euler' is built into sadaflow and that of .*one-sampling 1.2: one of"):
            make_solver("euler", GRID)
        with pytest.raises(ValueError, match=r"one-sampling 1.2 and that of .*two-sampling 1.2"):
            make_solver("twice", GRID)
        assert make_solver("ddim", GRID).order == 1
    finally:
        del sys.path[:2]


def test_many_threads_register_and_look_up() -> None:
    registry: Registry[int] = Registry(
        Kind("thing", "sadaflow.test.things", lambda label, made: int(made)), {"zero": 0}
    )
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for index in range(100):
                registry.register(f"n{number}-{index}", index)
                assert registry[f"n{number}-{index}"] == index and len(registry) <= 801
                assert "zero" in list(registry)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [] and len(registry) == 801
