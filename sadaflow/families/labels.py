"""Class labels of a checkpoint, by number and by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Self

import torch
from torch import Tensor

from .request import Request


@dataclass(frozen=True)
class Labels:
    """The class labels that a network knows.

    Attributes:
        count: Number of labels; they are numbered from 0.
        names: The number of each label that has a name, in lower case.
        published: The names as the checkpoint publishes them, by number as a string.
    """

    count: int
    names: Mapping[str, int]
    published: Mapping[str, str]

    @classmethod
    def read(cls, count: int, id2label: Any) -> Self:
        """Reads the names in a model_index.json.

        Args:
            count: Number of labels.
            id2label: From the number of a label, as a string, to its names, separated by commas; None without names.

        Raises:
            ValueError: If it is something else.
        """
        names: dict[str, int] = {}
        if id2label is not None and not isinstance(id2label, dict):
            raise ValueError("id2label is not an object of label numbers and names")
        for key, value in (id2label or {}).items():
            if not (str(key).isdigit() and int(key) < count and isinstance(value, str)):
                entry = f"{str(key)[:40]!r}: {str(value)[:80]!r}"
                raise ValueError(f"id2label has an entry {entry}; labels are 0 to {count - 1}, and names are text")
            for name in (value, *value.split(",")):
                names.setdefault(name.strip().lower(), int(key))
        return cls(count, names, id2label or {})

    def number(self, label: int | str) -> int:
        """The number of a label.

        Raises:
            ValueError: If there is no such label.
        """
        if isinstance(label, int):
            if not 0 <= label < self.count:
                raise ValueError(f"class_labels holds {label}; the labels of this checkpoint are 0 to {self.count - 1}")
            return label
        found = self.names.get(label.strip().lower())
        if found is None:
            if not self.names:
                raise ValueError(
                    f"class_labels holds {label!r}, and this checkpoint publishes no names (id2label): give a number "
                    f"from 0 to {self.count - 1}"
                )
            close = get_close_matches(label.lower(), self.names, n=3)
            hint = f"did you mean {', '.join(map(repr, close))}?" if close else f"give a number to {self.count - 1}"
            raise ValueError(f"class_labels holds {label!r}, which is not the name of a label: {hint}")
        return found

    def of(self, request: Request) -> Tensor:
        """The numbers of the labels of a request, (B,) int64.

        Raises:
            ValueError: If it has none, or one that does not exist.
        """
        labels: Sequence[Any] = request.labels
        if None in labels:
            known = f"0 to {self.count - 1}" + (", or a name" if self.names else "")
            raise ValueError(f"this checkpoint is sampled by class: give class_labels=, {known}")
        return torch.tensor([self.number(label) for label in labels], dtype=torch.long)
