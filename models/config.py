"""Reads the fields of a checkpoint's config.json: each is used, known to have no effect, or refused by name."""

import reprlib
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# Beyond every published model, and small enough that no product of a few of them overflows or takes long to build.
_WIDEST, _MOST = 2**20, 1000
_LEVELS = 32


def _same(value: Any) -> Any:
    return value


class Kind(NamedTuple):
    """What the value of a field must be.

    Args:
        words: the requirement, for messages.
        holds: whether a value meets it.
        read: turns a value that meets it into the one that is used (1024.0 into 1024).
    """

    words: str
    holds: Callable[[Any], bool]
    read: Callable[[Any], Any] = _same

    def __or__(self, other: "Kind") -> "Kind":
        return Kind(
            f"{self.words} or {other.words}",
            lambda value: self.holds(value) or other.holds(value),
            lambda value: self.read(value) if self.holds(value) else other.read(value),
        )


def list_of(kind: Kind, plural: str, most: int = _LEVELS) -> Kind:
    """A list of 1 to `most` entries, each a `kind`, read as a tuple."""

    def holds(value: Any) -> bool:
        return isinstance(value, (list, tuple)) and 1 <= len(value) <= most and all(map(kind.holds, value))

    return Kind(f"a list of {plural}", holds, lambda value: tuple(map(kind.read, value)))


def whole(least: int, most: int) -> Kind:
    """A whole number within limits, also written with a decimal point (1024.0); true and false are refused."""

    def holds(value: Any) -> bool:
        exact = type(value) is int or (type(value) is float and value.is_integer())
        return exact and least <= value <= most

    return Kind(f"a whole number from {least} to {most}", holds, int)


def one_of(*values: str) -> Kind:
    """One of a few names."""
    return Kind(f"one of {', '.join(map(repr, values))}", lambda value: isinstance(value, str) and value in values)


def _is_number(value: Any) -> bool:
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

QUANTIZED = "its weights are quantized, which is not supported; take the repository with 16 or 32-bit weights"


@dataclass(frozen=True)
class Table:
    """The fields of one class's config.json.

    Args:
        owner: the class, for messages.
        kinds: fields that are used, and what each value must be.
        only: fields of which some values are supported: those values.
        ignored: fields that cannot change the result, and why.
        needs: fields that can change the result, and what a checkpoint that sets one would need.
        names: values of `_class_name` that are this class; none: the field is not read.

    Fields that start with "_" are notes of the program that wrote the file.
    """

    owner: str
    kinds: Mapping[str, Kind]
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def read(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Reads the fields that are used.

        An unknown field that is null, false or empty cannot ask for anything: it is ignored, and one warning names all
        such fields.

        Returns:
            The fields among `kinds` that `raw` has, each in its own type.

        Raises:
            ValueError: a field that is used has a wrong value, or another one asks for what is not supported.
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
        kind = self.kinds[name]
        if not kind.holds(value):
            raise ValueError(f"{self.owner} config: {name}={reprlib.repr(value)} is not {kind.words}{self._need(name)}")
        return kind.read(value)

    def _allowed(self, name: str, value: Any) -> bool:
        """Whether `value` is supported: 1.0 stands for 1, a list of supported values for one of them."""
        values = value if isinstance(value, (list, tuple)) and value else [value]
        return all(
            any(entry == one and isinstance(entry, bool) == isinstance(one, bool) for one in self.only.get(name, ()))
            for entry in values
        )

    def _refusal(self, name: str, value: Any) -> str:
        if name in self.only:
            supported = ", ".join(map(repr, self.only[name]))
            return (
                f"{self.owner} config: {name}={reprlib.repr(value)} is not supported{self._need(name)}; "
                f"supported: {supported}"
            )
        if name in self.needs:
            return f"{self.owner} config: {name}={reprlib.repr(value)} is not supported{self._need(name)}"
        return (
            f"{self.owner} config: field {name[:80]!r} (value {reprlib.repr(value)}) is unknown, and may change the "
            "result"
        )

    def _need(self, name: str) -> str:
        return f": {self.needs[name]}" if name in self.needs else ""

    def _check_class(self, found: Any) -> None:
        if self.names and found is not None and found not in self.names:
            raise ValueError(f"the config is that of a {reprlib.repr(found)}; supported: {', '.join(self.names)}")


# Settings of the running average of weights that a training script stored beside the model's own (EMAModel).
EMA_LEFTOVERS: Mapping[str, str] = dict.fromkeys(
    (
        *("collected_params", "decay", "foreach", "inv_gamma", "min_decay", "model_cls", "model_config"),
        *("optimization_step", "power", "stride", "update_after_step", "use_ema_warmup"),
    ),
    "the training's running average of weights; the stored weights are already averaged",
)
TRAINING_LEFTOVERS: Mapping[str, str] = {
    "gradient_checkpointing": "saves memory in training",
    "dtype": "weights are converted to the dtype that the caller asks for",
    "torch_dtype": "weights are converted to the dtype that the caller asks for",
}


def per_level(owner: str, field: str, value: Any, levels: int) -> tuple[Any, ...]:
    """Spread a per-level field over `levels`: a single value is repeated, a list must have that length."""
    if not isinstance(value, (list, tuple)):
        return (value,) * levels
    if len(value) != levels:
        raise ValueError(f"{owner} config: {field}={value!r} has {len(value)} entries for {levels} levels")
    return tuple(value)
