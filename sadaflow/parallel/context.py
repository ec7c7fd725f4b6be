"""Context parallelism: the tokens of a transformer shared out among processes.

Inside the trunk every process holds a piece of the text tokens and one of the image tokens. Whatever treats tokens one
by one (projections, norms, feed-forwards) then is a share of the work; where they attend to each other, the keys and
values of all are gathered, and each process answers for its own queries. Rotary positions go with their tokens.
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
    """Who has which of `text` tokens and of `image` tokens: by rank a piece of each, the first ones longer by one.

    ValueError where that leaves a process without tokens.
    """

    axis: Axis
    text: int
    image: int

    def __post_init__(self) -> None:
        for kind, count in (("text", self.text), ("image", self.image)):
            if count < self.axis.size and (count or kind == "image"):
                raise ValueError(f"{count} {kind} tokens cannot be shared out among {self.axis.size} processes")

    def own(self, tokens: Tensor) -> Tensor:
        """Of all image tokens (B, image, ...), or joint ones (B, text + image, ...), those of this process."""
        if tokens.shape[1] == self.image:
            return self.own_of(tokens)
        return torch.cat((self.own_of(tokens[:, : self.text]), self.own_of(tokens[:, self.text :])), dim=1)

    def own_of(self, tokens: Tensor) -> Tensor:
        """This process's piece of tokens of one kind."""
        return tokens.tensor_split(self.axis.size, dim=1)[self.axis.rank]

    def whole(self, own: Tensor) -> Tensor:
        """What `own` took apart, from the pieces of all; ValueError where it is none."""
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
        least, longer = divmod(count, self.axis.size)
        return [least + (rank < longer) for rank in range(self.axis.size)]


class ContextSeam:
    """The seam of one evaluation whose trunk is computed in shares, around the accelerator's own seam `inner`.

    The inner seam meets what it meets on one process: all tokens at the trunk, whose `fn` it may call on some of them,
    at each block, and of keys and values; only the queries are this process's own. Its decisions are hence the same
    everywhere. Gathering the tokens at every block is left out for seams that do not act there.
    """

    def __init__(self, axis: Axis, inner: Seam) -> None:
        self.axis, self.inner = axis, inner
        self.met = False
        """Whether the network has a trunk."""
        self._everywhere = inner is not call_through and not isinstance(inner, Outermost)
        self._shares: Shares | None = None  # inside the trunk
        self._known: tuple[Tensor, Tensor] | None = None  # tokens of this process, and all of which they are a share

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
        """`fn` of the trunk in shares, called with all tokens."""

        def shared(hidden: Tensor, *args: Tensor | None) -> Tensor:
            texts = [args[index] for index in site.per_prefix]
            text = next((tokens.shape[1] for tokens in texts if tokens is not None), 0)
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

        everything = [
            shares.whole(arg) if arg is not None and index in site.per_token else arg for index, arg in enumerate(args)
        ]
        known = self._known
        whole = known[1] if known is not None and known[0] is hidden else shares.whole(hidden)
        output = self.inner(site._replace(prefix=shares.text), shared, whole, *everything)
        self._known = shares.own(output), output
        return self._known[0]

    def _attention(self, site: Site, fn: Callable[..., Tensor], query: Tensor, *args: Tensor | None) -> Tensor:
        shares, (key, value) = self._shares, args
        assert shares is not None and key is not None and value is not None
        key, value = shares.whole(torch.cat((key, value))).chunk(2)  # one exchange for both
        return self.inner(site._replace(prefix=shares.text), fn, query, key, value)

    @contextmanager
    def _inside(self, shares: Shares) -> Iterator[None]:
        outer, self._shares = self._shares, shares
        yield
        self._shares = outer


def _own_args(shares: Shares, site: Site, args: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    return [shares.own(arg) if arg is not None and index in site.per_token else arg for index, arg in enumerate(args)]
