"""A row of the table of layouts, and how a file's tensor names are matched with it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of a file's tensors by name."""


@dataclass(frozen=True)
class Layout:
    """A known layout of weight files.

    Attributes:
        name: What the file holds, in whose names.
        kind: "pipeline", "network", "autoencoder", "tiny autoencoder", "text encoder", "controlnet", "adapter",
            "embedding" or "format".
        has: Patterns of tensor names, each of which matches a name in the file; * stands for any characters.
        source: Who publishes such files, or a file that is an example.
        lacks: Patterns of tensor names, none of which matches a name in the file.
        keys: A regular expression that is found in a tensor name, if patterns do not tell. The names are lines of a
            text, so that it can also match the text as a whole.
        example: A tensor name of a published file, in which `keys` is found.
        shape: A pattern, an axis and its size, if shapes decide; None otherwise.
        refused: Why such files are not loaded, and what to do; None if they are.
        use: How such a file is loaded, for messages.
        family: The family of a pipeline or network: "sd", "xl", "refiner" or "flux"; "causal" for such an autoencoder;
            "" otherwise.
        prefix: What the names of the network's tensors begin with.
        texts: Prefix and layout ("clip", "open_clip", "t5", "decoder") of each text encoder. With `pipelines` they are
            text_encoder, text_encoder_2 and so on, and each may be absent.
        pipelines: For a network whose config the checkpoint `base` has: the pipeline classes that this may be of.
    """

    name: str
    kind: str
    has: tuple[str, ...]
    source: str
    lacks: tuple[str, ...] = ()
    keys: str = ""
    example: str = ""
    shape: tuple[str, int, int] | None = None
    refused: str | None = None
    use: str = ""
    family: str = ""
    prefix: str = ""
    texts: tuple[tuple[str, str], ...] = ()
    pipelines: tuple[str, ...] = ()

    @property
    def signs(self) -> tuple[str, ...]:
        """The example of a name, if there is one, and the patterns: by these a reader recognises such a file."""
        return (self.example, *self.has) if self.example else self.has


class Names:
    """The tensor names of a file, searched by pattern.

    Args:
        shapes: Shapes of the tensors by name.
    """

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        self._text = "\n".join(shapes)

    def find(self, pattern: str) -> str | None:
        """The first name that matches a pattern, or None."""
        if max(pattern.split("*"), key=len) not in self._text:  # much faster than the search
            return None
        found = _expression(pattern).search(self._text)
        return None if found is None else found[0]

    def search(self, keys: str) -> str | None:
        """The first name in which a regular expression is found, or None."""
        found = _searched(keys).search(self._text)
        if found is None:
            return None
        start, end = self._text.rfind("\n", 0, found.start() + 1) + 1, self._text.find("\n", found.start())
        return self._text[start : None if end < 0 else end]

    def matches(self, layout: Layout) -> bool:
        """Whether the names and shapes are those of a layout."""
        if any(self.find(pattern) is None for pattern in layout.has):
            return False
        if any(self.find(pattern) is not None for pattern in layout.lacks):
            return False
        if layout.keys and self.search(layout.keys) is None:
            return False
        if layout.shape is None:
            return True
        pattern, axis, size = layout.shape
        shape = self.shapes.get(self.find(pattern) or "", ())
        return -len(shape) <= axis < len(shape) and shape[axis] == size

    def missing(self, layout: Layout) -> list[str]:
        """The patterns of a layout that no name matches."""
        return [pattern for pattern in layout.has if self.find(pattern) is None]


@lru_cache(maxsize=1024)
def _searched(keys: str) -> re.Pattern[str]:
    return re.compile(keys, re.MULTILINE)


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile("^" + "[^\n]*".join(map(re.escape, pattern.split("*"))) + "$", re.MULTILINE)


def identify(shapes: Shapes, table: Sequence[Layout]) -> Layout | None:
    """The first row of a table that a file matches, or None."""
    names = Names(shapes)
    return next((layout for layout in table if names.matches(layout)), None)


def describe_unknown(shapes: Shapes, table: Sequence[Layout], most: int = 3) -> str:
    """What a file looks like that matches no row: its groups of tensors, and the rows that come near.

    Args:
        shapes: Shapes of its tensors by name.
        table: The rows.
        most: The most groups and rows that are named.
    """
    if not shapes:
        return "it holds no tensors"
    groups: dict[str, list[str]] = {}
    for name in shapes:
        groups.setdefault(".".join(name.split(".")[:2]), []).append(name)
    largest = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))[:most]
    looks = ", ".join(f"{head[:80]}.* ({len(own)})" if len(own) > 1 else own[0][:80] for head, own in largest)
    names = Names(shapes)
    near = [(layout, missing) for layout in table if len(missing := names.missing(layout)) < len(layout.has)]
    near.sort(key=lambda pair: len(pair[1]) / len(pair[0].has))
    words = "; ".join(f"{layout.name}{_difference(names, layout, missing)}" for layout, missing in near[:most])
    return f"it holds {len(shapes)} tensors, most of them under {looks}; nearest layouts: {words or 'none'}"


def _difference(names: Names, layout: Layout, missing: Iterable[str]) -> str:
    lacking = list(missing)
    beside = [found for pattern in layout.lacks if (found := names.find(pattern)) is not None]
    words = [f"lacks {', '.join(lacking)}"] if lacking else []
    words += [f"has {beside[0][:80]} beside it"] if beside else []
    return f" ({'; '.join(words)})" if words else ""
