"""Attention inside a block: the site of its queries, keys and values, and a preview of its input."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..seam import Seam, Site


class Reached(Exception):
    """Carries a tensor out of the modules that computed it, and ends their calls.

    Args:
        value: What was computed.
    """

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


def first_tensor(args: tuple[Any, ...], keywords: dict[str, Any]) -> Tensor | None:
    """The first tensor among the arguments of a call, if the first argument is one."""
    value = next(iter((*args, *keywords.values())), None)
    return value if isinstance(value, Tensor) else None


class SeamedAttention(TorchFunctionMode):
    """Calls a seam in place of `scaled_dot_product_attention` of all tokens to each other.

    Calls with a mask, or over other tokens, are left as they are.

    Args:
        seam: The seam.
        site: The site of the attention.
        tokens: Number of tokens of the block's hidden.
    """

    def __init__(self, seam: Seam, site: Site, tokens: int) -> None:
        super().__init__()
        self.seam, self.site, self.tokens = seam, site, tokens

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention or not self._suits(*args, **kwargs):
            return func(*args, **kwargs)
        scale = kwargs.get("scale")

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            query, key, value = (part.transpose(1, 2) for part in (query, key, value))
            return F.scaled_dot_product_attention(query, key, value, scale=scale).transpose(1, 2)

        heads = [part.transpose(1, 2) for part in _operands(*args, **kwargs)]
        return self.seam(self.site, attend, *heads).transpose(1, 2)

    def _suits(self, *args: Any, **kwargs: Any) -> bool:
        """Whether a call is attention of all tokens to each other, without a mask."""
        masked = len(args) > 3 or kwargs.get("attn_mask") is not None
        if masked or any(kwargs.get(name) for name in ("dropout_p", "is_causal", "enable_gqa")):
            return False
        return all(part.dim() == 4 and part.shape[2] == self.tokens for part in _operands(*args, **kwargs))


def _operands(*args: Tensor, **kwargs: Any) -> list[Tensor]:
    """Query, key and value of a call."""
    return [*args, *(kwargs[name] for name in ("query", "key", "value")[len(args) :])]
