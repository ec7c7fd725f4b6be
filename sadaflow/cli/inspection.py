"""The command `inspect`."""

from dataclasses import dataclass

from ..pipeline.inspection import describe, inspect
from .flags import Checkpoint, Debug, Revision, Variant
from .load import quiet_libraries
from .terminal import say


@dataclass(frozen=True)
class InspectOptions:
    """The flags in the order in which --help shows them."""

    model: Checkpoint = None
    revision: Revision = None
    variant: Variant = None
    debug: Debug = False


def run(options: InspectOptions) -> None:
    """Show what a checkpoint contains and which files would be downloaded, without loading weights."""
    quiet_libraries()
    say(describe(inspect(options.model, revision=options.revision, variant=options.variant)))
