"""Context parallelism: the tokens of a transformer are divided among processes.

Inside the trunk every process holds a part of the text tokens and a part of the image tokens. Layers that treat tokens
separately (projections, norms, feed-forwards) process only these. For attention the keys and values of all processes
are gathered, and each process computes the output of its own queries. Rotary positions are divided with the tokens.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sadaflow.accelerators.caching.base import Outermost
from sadaflow.models import Seam, Site, call_through

from .axis import Axis


@dataclass(frozen=True)
class Shares:
    """How tokens are divided: each process has a part of the text and of the image, the first parts longer by one.

    Attributes:
        axis: The processes.
        text: Number of text tokens.
        image: Number of image tokens.

    Raises:
        ValueError: if a process would have no tokens.
    """

    axis: Axis
    text: int
    image: int

    def __post_init__(self) -> None:
        for kind, count in (("text", self.text), ("image", self.image)):
            if count < self.axis.size and (count or kind == "image"):
                raise ValueError(f"{count} {kind} tokens cannot be divided among {self.axis.size} processes")

    def own(self, tokens: Tensor) -> Tensor:
        """Selects this process's part of image tokens (B, image, ...) or joint tokens (B, text + image, ...)."""
        if tokens.shape[1] == self.image:
            return self.own_of(tokens)
        return torch.cat((self.own_of(tokens[:, : self.text]), self.own_of(tokens[:, self.text :])), dim=1)

    def own_of(self, tokens: Tensor) -> Tensor:
        """This process's part of text tokens or of image tokens, (B, n, ...)."""
        return tokens.tensor_split(self.axis.size, dim=1)[self.axis.rank]

    def whole(self, own: Tensor) -> Tensor:
        """Gathers the parts of all processes: the inverse of `own`.

        Raises:
            ValueError: if `own` has another number of tokens than this process's part.
        """
        rank, images = self.axis.rank, self._lengths(self.image)
        texts = self._lengths(0 if own.shape[1] == images[rank] else self.text)
        if own.shape[1] != texts[rank] + images[rank]:
            raise ValueError(
                f"{own.shape[1]} tokens, where this process has {texts[rank]} of text and {images[rank]} of the image: "
                "the site of the trunk has to name the args that go with image tokens (per_token) or are text "
                "(per_prefix)"
            )
        longest = texts[0] + images[0]
        padding = (0, 0) * (own.dim() - 2) + (0, longest - own.shape[1])
        pieces = self.axis.gather(F.pad(own, padding)).unbind()
        first = [piece[:, :length] for piece, length in zip(pieces, texts, strict=True)]
        second = [piece[:, skip : skip + n] for piece, skip, n in zip(pieces, texts, images, strict=True)]
        return torch.cat((*first, *second), dim=1)

    def _lengths(self, count: int) -> list[int]:
        """Number of tokens of each process, out of `count`."""
        least, longer = divmod(count, self.axis.size)
        return [least + (rank < longer) for rank in range(self.axis.size)]


class ContextSeam:
    """The seam of one evaluation whose trunk is divided among processes, around the accelerator's own seam.

    The inner seam sees what it sees in one process: all tokens at the trunk and at each block, and all keys and values.
    Only the queries are this process's own. So its decisions are the same in every process. Tokens are not gathered at
    every block if the inner seam does not act there.

    Args:
        axis: The processes.
        inner: The accelerator's seam.

    Attributes:
        met: Whether the network has a trunk.
    """

    def __init__(self, axis: Axis, inner: Seam) -> None:
        self.axis, self.inner = axis, inner
        self.met = False
        self._everywhere = inner is not call_through and not isinstance(inner, Outermost)
        self._shares: Shares | None = None  # inside the trunk
        self._known: tuple[Tensor, Tensor] | None = None  # this process's tokens, and all tokens

    def __call__(self, site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
        if site.kind == "trunk":
            self.met = True
            return self.inner(site, self._trunk(site, fn), hidden, *args)
        if self._shares is None:
            return self.inner(site, fn, hidden, *args)
        if site.kind == "attention":
            return self._attention(site, fn, hidden, *args)
        return self._block(site, fn, hidden, *args) if self._everywhere else fn(hidden, *args)

    def _trunk(self, site: Site, fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The trunk's `fn`, called with all tokens and computed in parts."""

        def shared(hidden: Tensor, *args: Tensor | None) -> Tensor:
            texts = [args[index] for index in site.per_prefix]
            lengths = [tokens.shape[1] for tokens in texts if tokens is not None]
            if len(set(lengths)) > 1:
                raise ValueError(
                    "this call has tokens that are neither text nor image, as those of pictures to edit, which cannot "
                    "be divided among processes: use Parallel(guidance=2), or a prompt per process (docs/many.md)"
                )
            text = next(iter(lengths), 0)
            shares = Shares(self.axis, text, hidden.shape[1])
            given = [
                shares.own_of(arg) if arg is not None and index in site.per_prefix else arg
                for index, arg in enumerate(_own_args(shares, site, args))
            ]
            with self._inside(shares):
                output = fn(shares.own(hidden), *given)
            return shares.whole(output)

        return shared

    def _block(self, site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
        shares = self._shares
        assert shares is not None

        def shared(hidden: Tensor, *args: Tensor | None) -> Tensor:
            own = Shares(self.axis, shares.text, hidden.shape[1] - shares.text)
            with self._inside(own):
                output = fn(own.own(hidden), *_own_args(own, site, args))
            return own.whole(output)

        whole_args = [
            shares.whole(arg) if arg is not None and index in site.per_token else arg for index, arg in enumerate(args)
        ]
        known = self._known
        whole = known[1] if known is not None and known[0] is hidden else shares.whole(hidden)
        output = self.inner(site._replace(prefix=shares.text), shared, whole, *whole_args)
        self._known = shares.own(output), output
        return self._known[0]

    def _attention(self, site: Site, fn: Callable[..., Tensor], query: Tensor, *args: Tensor | None) -> Tensor:
        shares, (key, value), others = self._shares, args[:2], args[2:]
        assert shares is not None and key is not None and value is not None
        key, value = shares.whole(torch.cat((key, value))).chunk(2)  # one exchange for both
        prefix = shares.text if site.prefix else 0  # some attentions are of the image alone
        return self.inner(site._replace(prefix=prefix), fn, query, key, value, *others)

    @contextmanager
    def _inside(self, shares: Shares) -> Iterator[None]:
        outer, self._shares = self._shares, shares
        yield
        self._shares = outer


def _own_args(shares: Shares, site: Site, args: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    return [shares.own(arg) if arg is not None and index in site.per_token else arg for index, arg in enumerate(args)]
