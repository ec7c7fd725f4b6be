"""Several devices for one picture: the branches of guidance apart, and the tokens of a transformer shared out."""

from .mesh import Parallel

__all__ = ["Parallel"]
