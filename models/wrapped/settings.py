"""Names of the submodules between which a seam may act."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

Span = tuple[str, str]
"""The first and the last submodule of a part of a network, in the order in which they run."""


@dataclass(frozen=True)
class Seams:
    """Which submodules of a network are its sites, for accelerators that act inside.

    A transformer has `blocks`: modules that run one after the other as `hidden = block(hidden, ...)`, with the same
    further arguments, on hidden (B, prefix + h*w, C). The stack of them is a "trunk", each of them a "block".

    A U-Net has `deep` or `shell`, or both, each from the first submodule that runs in it to the last: "deep" begins
    after a skip connection and ends before the layer that consumes it, "shell" ends with that layer, and its output has
    the shape of its input. The input is the first argument of the first submodule.

    Attributes:
        blocks: Name of a `ModuleList` or `Sequential`, or a pattern as of `fnmatch` ("layers.*"), or several of them.
        attention: Name of the attention inside each block; accelerators preview its input, and of attention by
            `scaled_dot_product_attention` the pruned tokens keep their keys and values.
        prefix: Number of tokens before those of the image in hidden: text, class or register tokens.
        grid: Height and width of the grid of image tokens; None finds it from the shape of x, for square patches.
        deep: First and last submodule of the deep part.
        shell: First and last submodule of the shell.

    Raises:
        ValueError: if nothing is named, or blocks together with a part of a U-Net.
    """

    blocks: str | Sequence[str] | None = None
    attention: str | None = None
    prefix: int = 0
    grid: tuple[int, int] | None = None
    deep: Span | None = None
    shell: Span | None = None

    def __post_init__(self) -> None:
        unet = self.deep is not None or self.shell is not None
        if (self.blocks is None) is not unet:
            raise ValueError(
                "Seams needs blocks= (a transformer's blocks), or deep= or shell= (first and last submodule of a part "
                f"of a U-Net), and not both; got {self}"
            )
        if unet and (self.attention is not None or self.prefix or self.grid is not None):
            raise ValueError(f"Seams: attention=, prefix= and grid= belong to blocks=, not to a U-Net; got {self}")
        if self.prefix < 0:
            raise ValueError(f"Seams.prefix must be at least 0, got {self.prefix}")
        for name in ("deep", "shell"):
            span = getattr(self, name)
            if span is not None and (isinstance(span, str) or len(span) != 2):
                raise ValueError(f"Seams.{name} must be two names, of the first and the last submodule, got {span!r}")

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds of sites that the network has."""
        if self.blocks is None:
            return frozenset(kind for kind in ("deep", "shell") if getattr(self, kind) is not None)
        return frozenset({"trunk", "block", "attention"} if self.attention else {"trunk", "block"})

    def block_names(self, module: nn.Module) -> list[str]:
        """Names of the blocks of a network, in order.

        Raises:
            ValueError: if a name or pattern fits no submodule, or fewer than two blocks are found.
        """
        assert self.blocks is not None
        patterns = [self.blocks] if isinstance(self.blocks, str) else list(self.blocks)
        known = dict(module.named_modules())
        found: list[str] = []
        for pattern in patterns:
            if isinstance(known.get(pattern), (nn.ModuleList, nn.Sequential)):
                found += [f"{pattern}.{name}" for name, _ in known[pattern].named_children()]
            else:
                depth = pattern.count(".")
                matching = [name for name in known if name.count(".") == depth and fnmatchcase(name, pattern)]
                if not matching or pattern == "":
                    raise ValueError(f"Seams.blocks={pattern!r} fits no submodule; {_children(module)}")
                found += matching
        if len(found) < 2:
            raise ValueError(f"Seams.blocks={self.blocks!r} names {len(found)} block; name the list that holds them")
        return found

    def spans(self, module: nn.Module) -> dict[str, Span]:
        """First and last submodule of each part of a U-Net, by kind.

        Raises:
            ValueError: if a name is not that of a submodule that can be called.
        """
        spans = {kind: span for kind in ("shell", "deep") if (span := getattr(self, kind)) is not None}
        known = dict(module.named_modules())
        for kind, span in spans.items():
            for name in span:
                if name == "" or name not in known:
                    raise ValueError(f"Seams.{kind} names {name!r}, which is not a submodule; {_children(module)}")
                if is_container(known[name]):
                    raise ValueError(f"Seams.{kind} names {name!r}, a list that is not called itself: name an entry")
        return spans


def is_container(module: nn.Module) -> bool:
    """Whether a module holds others and is never called itself."""
    return isinstance(module, (nn.ModuleList, nn.ModuleDict))


def _children(module: nn.Module) -> str:
    """The names to choose from, for error messages."""
    names = [name for name, _ in module.named_children()]
    return f"the submodules of {type(module).__name__} are {', '.join(names[:30]) or 'none'}"
