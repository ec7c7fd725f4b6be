"""Comparisons of accelerated samples with plain ones: numbers and figures."""

from ..families.request import Settings
from .comparison import Comparison, Row, coarser, compare, table

__all__ = ["Comparison", "Row", "Settings", "coarser", "compare", "table"]
