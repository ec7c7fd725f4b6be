"""What an adapter file or a textual inversion is, which model it looks made for, and whether loading reads it."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from ..loading.layouts.adapted_model import made_for, made_for_width
from ..loading.layouts.row import Layout
from ..loading.layouts.table import adapters_of
from ..loading.lora.complaints import check_adapter
from ..loading.safetensors_file import Stored, open_safetensors
from ..loading.sampling_defaults import Recommended
from .inspected import Component, Inspection, sampling_of


def inspect_adapter(path: Path, layout: Layout, stored: Sequence[Stored], component: Component) -> Inspection:
    """Describe a file whose row in the table of layouts is one of adapters or textual inversions.

    Args:
        path: The file.
        layout: The row.
        stored: Its tensors.
        component: Its parameters and bytes.
    """
    shapes = {tensor.name: tensor.shape for tensor in stored}
    rows: tuple[Layout, ...] = (layout,)
    refused, notes = layout.refused, []
    if layout.kind == "adapter":
        rows = adapters_of(shapes) or rows
        with open_safetensors(path) as file:
            model = made_for(shapes.items(), file.metadata())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                check_adapter(path, stored)
            except (ValueError, OSError) as error:
                refused = refused or str(error)
        notes = [str(each.message) for each in caught]
    else:
        model = made_for_width(shapes.items())
    looks = f"it looks made for {model}" if model else "its keys do not tell which model it was made for"
    return Inspection(
        str(path),
        " + ".join(row.name for row in rows),
        all(row.refused is None for row in rows),
        (component,),
        **sampling_of({}, Recommended(), None, guided=True),
        refused=refused,
        notes=(*(f"{row.name}: {row.source}" for row in rows), looks, *notes),
        use=layout.use,
    )
