"""The seam: the single interface through which accelerators act inside a network."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor


class Site(NamedTuple):
    """A location in a backbone at which a seam may act.

    The kinds of sites, with their hidden tensor:

    - "shell": a U-Net's skip connection, the layer that consumes it, and everything between; hidden is the skip
      connection (B, C, h, w).
    - "deep": the shell without the layer that consumes the skip connection; hidden is the same.
    - "block": one transformer block; hidden is (B, prefix + h*w, C), of a video (B, prefix + T*h*w, C).
    - "trunk": all blocks of a transformer; hidden is (B, h*w, C), of a video (B, T*h*w, C).
    - "attention": the attention of the tokens to each other inside a block; hidden is the queries
      (B, prefix + h*w, heads, head_dim), args are the keys and the values, shaped alike, and, if some tokens are
      padding, which of the prefix are attended to, bool (B, prefix).

    Attributes:
        kind: one of the above.
        name: unique within the backbone.
        depth: number of downsamplings above (0 is the latent's own resolution).
        size: (h, w) of the feature map; (T, h, w) of a video's.
        prefix: number of text tokens that precede the h*w positions in hidden.
        per_token: indices of the args that have one entry per token of hidden; a seam that gathers tokens of hidden
            must gather these too.
        per_prefix: for a trunk, indices of the args that are text tokens (B, L, ...), which precede the others inside
            it.
        probe: for a trunk, a cheap preview with the signature of `fn`; it returns the normed and modulated image tokens
            (B, h*w, C) that the first block's attention reads.
        tokens: whether `fn` may be called on some of the tokens.
        time: for a trunk, index of the arg that embeds the time alone, (B, width) or per token (B, h*w, width); None if
            the trunk has no such arg.
    """

    kind: str
    name: str
    depth: int
    size: tuple[int, ...]
    prefix: int = 0
    per_token: tuple[int, ...] = ()
    per_prefix: tuple[int, ...] = ()
    probe: Callable[..., Tensor] | None = None
    tokens: bool = True
    time: int | None = None

    def attention(self, name: str) -> "Site":
        """Returns the site of the attention `name` inside this block."""
        return Site("attention", f"{self.name}.{name}", self.depth, self.size, self.prefix)


class Seam(Protocol):
    """Function called as `seam(site, fn, hidden, *args)` in place of `fn(hidden, *args)`.

    Batched `args` have the rows of `hidden`, so a seam may call `fn` on a subset of rows or tokens. The output of `fn`
    has the shape of its hidden, except at a "deep" site, where the number of channels may differ. Queries may attend to
    any number of keys and values.
    """

    def __call__(self, site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
        """Returns what `fn(hidden, *args)` would return, or an approximation of it."""
        ...


def call_through(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
    """Calls a part of the network unchanged: the seam that does nothing.

    Args:
        site: Where in the network `fn` is.
        fn: The part.
        hidden: Its first argument (B, ...).
        *args: Its further arguments.
    """
    return fn(hidden, *args)
