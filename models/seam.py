"""The one seam through which everything that accelerates *inside* a network reaches it."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor


class Site(NamedTuple):
    """A place in a backbone where a seam may act.

    `kind` is "shell" (a U-Net's skip connection, the layer that consumes it and all between; hidden is the skip
    connection (B, C, h, w)), "deep" (what lies between: the shell without that layer, which reads what comes out),
    "block" (one transformer block; hidden is (B, prefix + h*w, C)), "trunk" (all blocks of a transformer; hidden is
    (B, h*w, C)) or "attention" (the tokens' attention to each other inside a block; hidden are the queries (B, prefix +
    h*w, heads, head_dim), args the keys and the values, alike). `name` is unique within the backbone, `size` is the
    (h, w) of the feature map, `depth` counts the downsamplings above it (0 = the latent's own resolution).
    """

    kind: str
    name: str
    depth: int
    size: tuple[int, int]
    prefix: int = 0
    """How many tokens of another kind (text) precede the h*w positions in hidden."""
    per_token: tuple[int, ...] = ()
    """Which of the args have one entry per token of hidden: whoever gathers tokens of hidden gathers these."""
    per_prefix: tuple[int, ...] = ()
    """Of a trunk, which of the args are the tokens of another kind (B, L, ...) that precede the others inside it."""
    probe: Callable[..., Tensor] | None = None
    """Of a trunk, a cheap first look: called as `fn` is, answers with what the first block's attention reads of the
    image, normed and modulated, (B, h*w, C)."""

    def attention(self, name: str) -> "Site":
        """The site of the attention `name` inside this block."""
        return Site("attention", f"{self.name}.{name}", self.depth, self.size, self.prefix)


class Seam(Protocol):
    """Called as `seam(site, fn, hidden, *args)` in place of `fn(hidden, *args)`; returns what `fn` would return.

    Batched `args` have the rows of `hidden`, so a seam may call `fn` on a subset of rows or of tokens. The output of
    `fn` has the shape of the hidden that it was given, but for that of a "deep" site, whose channels may be others.
    Queries may attend to any number of keys and values.
    """

    def __call__(self, site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor: ...


def call_through(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
    """The seam that changes nothing."""
    return fn(hidden, *args)
