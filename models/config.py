"""Reads a checkpoint's config.json: each field is used, known to have no effect, or rejected by name."""

import reprlib
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# Larger than in every published model, and small enough that products neither overflow nor take long to build.
_WIDEST, _MOST = 2**20, 1000
_LEVELS = 32


def _same(value: Any) -> Any:
    """Returns the value unchanged."""
    return value


class Kind(NamedTuple):
    """Requirement on the value of a field.

    Attributes:
        words: the requirement, for error messages.
        holds: returns whether a value meets it.
        read: converts a value that meets it to the value that is used (1024.0 to 1024).
    """

    words: str
    holds: Callable[[Any], bool]
    read: Callable[[Any], Any] = _same

    def __or__(self, other: "Kind") -> "Kind":
        """Returns the requirement to meet either of the two."""
        return Kind(
            f"{self.words} or {other.words}",
            lambda value: self.holds(value) or other.holds(value),
            lambda value: self.read(value) if self.holds(value) else other.read(value),
        )


def list_of(kind: Kind, plural: str, most: int = _LEVELS) -> Kind:
    """Requires a list of 1 to `most` entries that each meet `kind`; reads it as a tuple."""

    def holds(value: Any) -> bool:
        return isinstance(value, (list, tuple)) and 1 <= len(value) <= most and all(map(kind.holds, value))

    return Kind(f"a list of {plural}", holds, lambda value: tuple(map(kind.read, value)))


def whole(least: int, most: int) -> Kind:
    """Requires an integer within limits, also written with a decimal point (1024.0); true and false are rejected."""

    def holds(value: Any) -> bool:
        exact = type(value) is int or (type(value) is float and value.is_integer())
        return exact and least <= value <= most

    return Kind(f"a whole number from {least} to {most}", holds, int)


def one_of(*values: str) -> Kind:
    """Requires one of the given strings."""
    return Kind(f"one of {', '.join(map(repr, values))}", lambda value: isinstance(value, str) and value in values)


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


NONE = Kind("null", lambda value: value is None)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
SWITCH = Kind("true, false or null", lambda value: value is None or isinstance(value, bool), bool)
NUMBER = Kind("a finite number", _is_number, float)
NUMBERS = list_of(NUMBER, "finite numbers", 2**12)
POSITIVE = Kind("a positive number", lambda value: _is_number(value) and value > 0, float)
WIDTH = whole(1, _WIDEST)
WIDTHS = list_of(WIDTH, "such numbers")
COUNT = whole(1, _MOST)
COUNTS = list_of(COUNT, "such numbers")
NAMES = list_of(Kind("a name", lambda value: isinstance(value, str)), "names")

QUANTIZED = "quantized weights are not supported; use the repository with 16 or 32-bit weights"


@dataclass(frozen=True)
class Table:
    """The fields of one class's config.json. Fields that start with "_" are metadata and are ignored.

    Attributes:
        owner: the class, for error messages.
        kinds: fields that are used -> requirement on the value.
        only: fields that are supported at some values only -> those values.
        ignored: fields that cannot change the result -> reason.
        needs: fields that can change the result -> what a checkpoint that sets them would need.
        names: values of `_class_name` that mean this class; if empty, the field is not read.
    """

    owner: str
    kinds: Mapping[str, Kind]
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def read(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Reads the fields that are used.

        An unknown field that is null, false or empty is ignored with a warning.

        Args:
            raw: the JSON object.

        Returns:
            The fields of `kinds` that `raw` contains, converted to their types.

        Raises:
            ValueError: if a field has a wrong value or requires an unsupported feature.
        """
        self._check_class(raw.get("_class_name"))
        values, idle = {}, []
        for name, value in raw.items():
            if name in self.kinds:
                values[name] = self._typed(name, value)
            elif name.startswith("_") or name in self.ignored or self._allowed(name, value):
                continue
            elif name in self.only or not (value is None or value is False or value in ("", [], {})):
                raise ValueError(self._refusal(name, value))
            elif name not in self.needs:
                idle.append(name[:80])
        if idle:
            warnings.warn(
                f"{self.owner} config: unknown fields without a value are ignored: {', '.join(idle[:20])}", stacklevel=4
            )
        return values

    def _typed(self, name: str, value: Any) -> Any:
        """Returns the converted value of a used field; raises ValueError if it does not meet the requirement."""
        kind = self.kinds[name]
        if not kind.holds(value):
            raise ValueError(f"{self.owner} config: {name}={reprlib.repr(value)} is not {kind.words}{self._need(name)}")
        return kind.read(value)

    def _allowed(self, name: str, value: Any) -> bool:
        """Whether `value` is supported: 1.0 equals 1, and a list is supported if all its entries are."""
        values = value if isinstance(value, (list, tuple)) and value else [value]
        return all(
            any(entry == good and isinstance(entry, bool) == isinstance(good, bool) for good in self.only.get(name, ()))
            for entry in values
        )

    def _refusal(self, name: str, value: Any) -> str:
        """Returns the error message for a field that is not supported."""
        if name in self.only:
            supported = ", ".join(map(repr, self.only[name]))
            return (
                f"{self.owner} config: {name}={reprlib.repr(value)} is not supported{self._need(name)}; "
                f"supported: {supported}"
            )
        if name in self.needs:
            return f"{self.owner} config: {name}={reprlib.repr(value)} is not supported{self._need(name)}"
        return (
            f"{self.owner} config: field {name[:80]!r} (value {reprlib.repr(value)}) is unknown and may change the "
            "result"
        )

    def _need(self, name: str) -> str:
        """Returns the part of an error message that says what a field would need."""
        return f": {self.needs[name]}" if name in self.needs else ""

    def _check_class(self, found: Any) -> None:
        """Raises ValueError if the config was written by another class."""
        if self.names and found is not None and found not in self.names:
            raise ValueError(f"the config has class {reprlib.repr(found)}; supported: {', '.join(self.names)}")


# Settings of the weight average (EMAModel) that training scripts store with the model's own.
EMA_LEFTOVERS: Mapping[str, str] = dict.fromkeys(
    (
        *("collected_params", "decay", "foreach", "inv_gamma", "min_decay", "model_cls", "model_config"),
        *("optimization_step", "power", "stride", "update_after_step", "use_ema_warmup"),
    ),
    "weight average of training; the stored weights are already averaged",
)
TRAINING_LEFTOVERS: Mapping[str, str] = {
    "gradient_checkpointing": "saves memory in training",
    "dtype": "weights are converted to the dtype that the caller asks for",
    "torch_dtype": "weights are converted to the dtype that the caller asks for",
}


def per_level(owner: str, field: str, value: Any, levels: int) -> tuple[Any, ...]:
    """Returns a field's value for each of `levels` levels: a single value is repeated, a list must have that length.

    Args:
        owner: the class, for error messages.
        field: the field, for error messages.
        value: a value or a list of them.
        levels: number of levels.

    Raises:
        ValueError: if a list has another length.
    """
    if not isinstance(value, (list, tuple)):
        return (value,) * levels
    if len(value) != levels:
        raise ValueError(f"{owner} config: {field}={value!r} has {len(value)} entries for {levels} levels")
    return tuple(value)
