"""Says what is wrong with a file that is not an adapter, or not one for the pipeline."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..embeddings import BUNDLE
from ..layouts.adapted_model import made_for
from ..layouts.row import describe_unknown
from ..layouts.table import LAYOUTS, layout_of, refused_adapter
from ..safetensors_file import Stored
from .keys import ia3_layers, parse
from .settings import read_settings


def check_adapter(path: Path, headers: Sequence[Stored]) -> None:
    """Check what can be checked of an adapter without a pipeline: its kind, the forms of its keys, its settings.

    Args:
        path: The file.
        headers: Its tensors.

    Raises:
        ValueError: If loading it into any pipeline would fail.
    """
    require_read(path, headers)
    ia3 = ia3_layers(stored.name for stored in headers)
    own = [stored for stored in headers if not stored.name.startswith(BUNDLE)]
    if strange := [stored for stored in own if parse(stored.name, ia3) is None]:
        raise ValueError(f"{path}: {complaint(headers, strange, ())}")
    read_settings(path, [stored.name for stored in own])


def require_read(path: Path, headers: Sequence[Stored]) -> None:
    """Raises ValueError if the file is of a refused kind of adapter, with its name and one of the keys."""
    if (found := refused_adapter(_shapes(headers))) is not None:
        row, name = found
        raise ValueError(f"{path}: {name!r} belongs to {row.name}, which is not supported: {row.refused}")


def complaint(headers: Sequence[Stored], strange: Sequence[Stored], unmatched: Sequence[Stored]) -> str:
    """What is wrong with the keys that belong to no layer."""
    names = [stored.name for stored in strange]
    wrong = [*names, *(stored.name for stored in unmatched)]
    examples = f" ({', '.join(repr(name[:120]) for name in wrong[:3])})" if wrong else ""
    count = f"{len(wrong)} of {len(headers)} keys"
    if len(names) == len(headers):
        looks = _other_file(_shapes(headers))
        return f"{count} belong to no layer of this pipeline{examples}: the file is not an adapter; {looks}"
    if names:
        return f"{count} belong to no layer of this pipeline{examples}: they are those of no known dialect of adapters"
    model = made_for((stored.name, stored.shape) for stored in headers)
    looks = f"; it looks like an adapter for {model}" if model else ""
    return f"{count} belong to no layer of this pipeline{examples}; was the LoRA made for another model?{looks}"


def _other_file(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What a file holds that is not an adapter, and what to do with it."""
    layout = layout_of(shapes)
    if layout is None or layout.kind == "adapter" and layout.refused is None:
        return f"its keys are of no known dialect (docs/layouts.md): {describe_unknown(shapes, LAYOUTS)}"
    return f"it holds: {layout.name}; {layout.refused or f'load it by {layout.use}'}"


def _shapes(headers: Sequence[Stored]) -> dict[str, tuple[int, ...]]:
    return {stored.name: stored.shape for stored in headers}
