"""The table of layouts, and the error for a file that is of another kind than its argument takes."""

from pathlib import Path

from .adapters import ADAPTERS, EMBEDDINGS, REFUSED_ADAPTERS
from .autoencoders import AUTOENCODERS, TINY_AUTOENCODERS
from .controlnets import CONTROLNETS
from .leftovers import is_leftover
from .refused import FORMATS, MODELS
from .row import Layout, Names, Shapes, describe_unknown, identify
from .single_files import NETWORKS, PIPELINES, TEXTS

LAYOUTS: tuple[Layout, ...] = (
    *FORMATS,
    *CONTROLNETS,
    *ADAPTERS,
    *EMBEDDINGS,
    *MODELS,
    *PIPELINES,
    *NETWORKS,
    *AUTOENCODERS,
    *TINY_AUTOENCODERS,
    *TEXTS,
)
"""All rows; a file is of the first that it matches."""


def layout_of(shapes: Shapes) -> Layout | None:
    """The row that a file matches by its tensors without leftovers, or None."""
    return identify({name: shape for name, shape in shapes.items() if not is_leftover(name)}, LAYOUTS)


def adapters_of(shapes: Shapes) -> tuple[Layout, ...]:
    """All rows of adapters that a file matches, such as a form of the change and a dialect of the names."""
    names = Names(shapes)
    return tuple(row for row in ADAPTERS if names.matches(row))


def refused_adapter(shapes: Shapes) -> tuple[Layout, str] | None:
    """The row of a refused kind of adapter that a file matches, with one of its keys; None if it matches none."""
    names = Names(shapes)
    rows = (row for row in REFUSED_ADAPTERS if names.matches(row))
    return next(((row, names.search(row.keys) or "") for row in rows), None)


def require_layout(shapes: Shapes, path: Path, kinds: tuple[str, ...], what: str) -> Layout:
    """The row that a file matches.

    Args:
        shapes: Shapes of the file's tensors by name.
        path: The file, for errors.
        kinds: Kinds of file that the argument takes; see `Layout`.
        what: What the argument takes, for errors.

    Raises:
        ValueError: If the file is of a layout that is refused, of another kind, or of none.
    """
    layout = layout_of(shapes)
    if layout is None:
        raise ValueError(f"{path} is not of a known layout: {describe_unknown(shapes, LAYOUTS)}")
    if layout.refused is not None:
        raise ValueError(f"{path} holds: {layout.name}; {layout.refused}")
    if layout.kind not in kinds:
        raise ValueError(f"{path} holds: {layout.name}, a known layout, but not {what}; load it by {layout.use}")
    return layout
