"""Comparisons of accelerated samples with plain ones: numbers and figures."""

from ..families.request import Request
from .comparison import Comparison, Row, coarser, compare
from .table import table

__all__ = ["Comparison", "Request", "Row", "coarser", "compare", "table"]
