"""What a single file holds, and what loading it would say, from its header alone."""

import warnings
from collections import Counter
from pathlib import Path

from ..families import FAMILIES
from ..families.single_file_check import CheckedFile, check_single_file, read_single_file
from ..loading.layouts.row import describe_unknown
from ..loading.layouts.table import LAYOUTS
from ..loading.safetensors_file import Stored, read_headers
from ..loading.sampling_defaults import Recommended
from .inspected import Component, Inspection, sampling_of
from .inspected_adapter import inspect_adapter

_GUIDANCE = {
    "flux": FAMILIES["FluxPipeline"].default_guidance,
    "sd": FAMILIES["StableDiffusionPipeline"].default_guidance,
    **dict.fromkeys(("xl", "refiner"), FAMILIES["StableDiffusionXLPipeline"].default_guidance),
}


def inspect_file(path: Path) -> Inspection:
    """Describe a single file: its layout, its components, and whether its tensors are those of the networks.

    Args:
        path: The file.

    Raises:
        ValueError: If it is not a safetensors file.
    """
    file, checked = read_single_file(path)
    layout, refused = checked.layout, None
    if layout is not None and layout.kind in ("adapter", "embedding"):
        stored = tuple(read_headers([path]))
        return inspect_adapter(path, layout, stored, _component(path.name, layout.kind, stored))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            check_single_file(file, checked)
        except (ValueError, ImportError) as error:
            refused = str(error)
    if layout is None:
        refused = f"it is not of a known layout: {describe_unknown(file.all_shapes, LAYOUTS)}"
    elif layout.refused is not None:
        refused = layout.refused
    notes = [*_notes(checked), *(str(each.message) for each in caught)]
    guidance = _GUIDANCE.get("" if layout is None else layout.family)
    return Inspection(
        str(path),
        "unknown" if layout is None else layout.name,
        layout is not None and layout.refused is None,
        tuple(_component(name, kind, stored) for name, (kind, stored) in checked.parts.items()),
        **sampling_of(checked.scheduler, Recommended(), guidance, guided=checked.guided),
        refused=refused,
        notes=tuple(dict.fromkeys(notes)),
        use="" if layout is None else layout.use,
    )


def _notes(checked: CheckedFile) -> list[str]:
    layout, notes = checked.layout, []
    if layout is not None:
        notes.append(f"files of this layout: {layout.source}")
        if layout.refused is None and layout.kind == "pipeline":
            notes.append("tokenizers are in no single file: tokenizer=CHECKPOINT names one in the Hub's layout")
    if checked.lacks:
        notes.append(f"it holds no {', no '.join(checked.lacks)}: base=CHECKPOINT supplies them")
    if checked.needs is not None:
        notes.append(f"it loads, but cannot be sampled yet: {checked.needs}")
    return notes


def _component(name: str, kind: str, stored: tuple[Stored, ...]) -> Component:
    counts: Counter[str] = Counter()
    for tensor in stored:
        counts[tensor.format] += tensor.elements
    size = sum(tensor.elements * tensor.element_bits // 8 for tensor in stored)
    return Component(name, kind, dict(counts), size)
