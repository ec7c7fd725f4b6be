"""What a folder in the Hub's layout says of a pipeline beside its networks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

ABSENT: Final = [None, None]
"""What model_index.json has for a component that a checkpoint does not have."""


@dataclass(frozen=True)
class Exported:
    """What a family's method `exported` returns.

    Attributes:
        class_name: The pipeline class in Diffusers.
        tokenizers: The tokenizers, by component.
        fields: Further fields of model_index.json.
        configs: config.json of networks, by component, if it is not that of their architecture's `to_dict`.
    """

    class_name: str
    tokenizers: Mapping[str, Any]
    fields: Mapping[str, Any] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
