"""SADA (arXiv 2507.17135): the paper's method, the released code's behaviour, the token cache."""

from .sada import SADA

__all__ = ["SADA"]
