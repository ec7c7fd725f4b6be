"""Architectures that are read from a checkpoint's config.json."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Self

from .config import Table

_NUMBERS: Final = {3: "three", 4: "four"}


class JsonConfig:
    """Base class of frozen dataclasses whose fields are those of a config.json.

    Attributes:
        table: the fields, with what each may be.
    """

    table: ClassVar[Table]

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Reads a config.json.

        Args:
            raw: the JSON object.

        Raises:
            ValueError: if a field has a wrong value or requires an unsupported feature.
        """
        config = cls(**cls.table.read(raw))
        config.check()
        return config

    def check(self) -> None:
        """Raises ValueError if fields do not fit each other."""

    def check_axes(self, name: str, count: int, total: int, of: str) -> None:
        """Checks the widths of the rotary axes.

        Args:
            name: the field that holds them.
            count: how many there must be.
            total: the width of a head, which they must sum to.
            of: how the error names this width.

        Raises:
            ValueError: if they are not `count` even numbers with this sum.
        """
        axes: Sequence[int] = getattr(self, name)
        if len(axes) != count or sum(axes) != total or any(dim % 2 for dim in axes):
            raise ValueError(
                f"{self.table.owner} config: {name}={list(axes)} must be {_NUMBERS[count]} even numbers that sum to "
                f"{of}={total}"
            )


class HeadsConfig(JsonConfig):
    """Base class of those that give the width of the tokens by the number of heads and their width.

    Attributes:
        num_attention_heads: number of heads.
        attention_head_dim: width of a head.
    """

    num_attention_heads: int
    attention_head_dim: int

    @property
    def dim(self) -> int:
        """Width of the tokens."""
        return self.num_attention_heads * self.attention_head_dim
