"""Reading a checkpoint's config.json: every field is used, known to be without effect, or refused by name."""

from collections.abc import Iterable, Mapping
from typing import Any


def refuse_unsupported(
    owner: str, raw: Mapping[str, Any], known: Iterable[str], only: Mapping[str, tuple[Any, ...]]
) -> None:
    """Raise ValueError for a field of `raw` that `owner` neither knows nor can honour.

    `known` names the fields that are read or have no effect on the result; `only` gives, for fields of which a part
    of the values is supported, those values. Fields that start with "_" are bookkeeping of the writer.
    """
    known = set(known)
    for field, value in raw.items():
        if field.startswith("_") or field in known:
            continue
        if field not in only:
            raise ValueError(f"{owner} config: field {field!r} (value {value!r}) is unknown and cannot be honoured")
        allowed = only[field]
        value = tuple(value) if isinstance(value, list) else value
        if value not in allowed:
            raise ValueError(
                f"{owner} config: {field}={value!r} is not supported; supported: {', '.join(map(repr, allowed))}"
            )


def per_level(owner: str, field: str, value: Any, levels: int) -> tuple[Any, ...]:
    """Spread a per-level field over `levels`: a single value is repeated, a list must have that length."""
    if not isinstance(value, (list, tuple)):
        return (value,) * levels
    if len(value) != levels:
        raise ValueError(f"{owner} config: {field}={value!r} has {len(value)} entries for {levels} levels")
    return tuple(value)
