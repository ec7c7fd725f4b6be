"""The tables and keys of a suite file, and messages about what is wrong with them.

Needs pydantic, the extra `bench`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

try:
    from pydantic import BaseModel, ConfigDict, Field, ValidationError
except ImportError as error:
    raise ImportError("suite files need pydantic: pip install 'sadaflow[bench]'") from error

Text = Annotated[str, Field(pattern=r"\S")]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Factor = Annotated[float, Field(allow_inf_nan=False, ge=1)]
Texts = Annotated[list[Text], Field(min_length=1)]
Counts = Annotated[list[Count], Field(min_length=1)]
Seeds = Annotated[list[Seed], Field(min_length=1)]
Numbers = Annotated[list[Number], Field(min_length=1)]
Factors = Annotated[list[Factor], Field(min_length=1)]

# What a key holds, as messages say it.
TEXT: Final = "a text"
COUNT: Final = "a whole number, at least 1"
NUMBER: Final = "a finite number"
TRUTH: Final = "true or false"
TABLE: Final = "a table"
TEXTS: Final = "a list of texts, not empty"
COUNTS: Final = "a list of whole numbers, each at least 1, not empty"
SEEDS: Final = "a list of whole numbers, each at least 0, not empty"
NUMBERS: Final = "a list of finite numbers, not empty"
FACTORS: Final = "a list of finite numbers, each at least 1, not empty"
TABLES: Final = "a list of tables, not empty"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class CaseTable(_Table):
    """A table [[case]]: a model and prompts (absent: the suite's), solvers and numbers of steps."""

    model: Text | None = Field(default=None, description=TEXT)
    guidance: Number | None = Field(default=None, description=NUMBER)
    prompts: Texts | None = Field(default=None, description=TEXTS)
    solvers: Texts = Field(description=TEXTS)
    steps: Counts = Field(description=COUNTS)


class MethodTable(_Table):
    """A table [[method]]: an accelerator or a plain rival, with the settings to run."""

    name: Text | None = Field(default=None, description=TEXT)
    accelerator: Text = Field(description=TEXT)
    steps: Counts | None = Field(default=None, description=COUNTS)
    models: Texts | None = Field(default=None, description=TEXTS)
    settings: Annotated[list[dict[str, Any]], Field(min_length=1)] = Field(default=[{}], description=TABLES)


class ReportTable(_Table):
    """The table [report]: what the report reads off every front."""

    speedups: Factors = Field(default=[2.0], description=FACTORS)
    levels: Numbers | None = Field(default=None, description=NUMBERS)
    rivals: Texts | None = Field(default=None, description=TEXTS)
    nearest: Factors | None = Field(default=None, description=FACTORS)


class SizeTable(_Table):
    """The table [size]: height, width and number of frames of the samples; absent: the checkpoint's own."""

    height: Count | None = Field(default=None, description=COUNT)
    width: Count | None = Field(default=None, description=COUNT)
    num_frames: Count | None = Field(default=None, description=COUNT)


class TimingTable(_Table):
    """The table [timing]: which settings are timed, and how often."""

    settings: Texts | None = Field(default=None, description=TEXTS)
    steps: Counts | None = Field(default=None, description=COUNTS)
    rounds: Count = Field(default=5, description=COUNT)
    samples: Count = Field(default=2, description=COUNT)
    batch: Count = Field(default=1, description=COUNT)
    always: bool = Field(default=False, description=TRUTH)


class SuiteTable(_Table):
    """The whole file."""

    model: Text | None = Field(default=None, description=TEXT)
    guidance: Number | None = Field(default=None, description=NUMBER)
    batch: Count = Field(default=8, description=COUNT)
    prompts: Texts | None = Field(default=None, description=TEXTS)
    seeds: Seeds | None = Field(default=None, description=SEEDS)
    metrics: Texts | None = Field(default=None, description=TEXTS)
    case: Annotated[list[CaseTable], Field(min_length=1)] = Field(description=TABLES)
    method: Annotated[list[MethodTable], Field(min_length=1)] = Field(description=TABLES)
    report: ReportTable = Field(default=ReportTable(), description=TABLE)
    timing: TimingTable | None = Field(default=None, description=TABLE)
    size: SizeTable = Field(default=SizeTable(), description=TABLE)


_LISTED: Final[Mapping[str, type[_Table]]] = {"case": CaseTable, "method": MethodTable}
_SINGLE: Final[Mapping[str, type[_Table]]] = {"report": ReportTable, "timing": TimingTable, "size": SizeTable}


def read_tables(values: Mapping[str, Any], name: str) -> SuiteTable:
    """Checks the tables of a suite file, each key by itself.

    Args:
        values: The file as `tomllib` reads it.
        name: Name of the suite, for messages.

    Raises:
        ValueError: If keys are missing, unknown, or hold what they may not. The message has a line for each of them
            with suite, table, key and value, and says what the key may hold.
    """
    try:
        return SuiteTable.model_validate(values)
    except ValidationError as error:
        found = (_message(name, tuple(problem["loc"]), problem["type"], values) for problem in error.errors())
        raise ValueError("\n".join(dict.fromkeys(found))) from error


def _message(name: str, location: tuple[str | int, ...], problem: str, values: Any) -> str:
    table: type[_Table] = SuiteTable
    where, key = f"suite {name}", str(location[0])
    if key in _LISTED and len(location) > 2:
        index = int(location[1])
        where, table, values = f"{where}: {key} {index + 1}", _LISTED[key], values[key][index]
        key = str(location[2])
    elif key in _SINGLE and len(location) > 1:
        where, table, values = f"{where}: {key}", _SINGLE[key], values[key]
        key = str(location[1])
    if problem == "extra_forbidden":
        return f"{where}: unknown key {key!r}; known: {', '.join(table.model_fields)}"
    allowed = table.model_fields[key].description
    if problem == "missing":
        return f"{where}: {key} is missing; it is {allowed}"
    return f"{where}: {key} must be {allowed}, got {values[key]!r}"
