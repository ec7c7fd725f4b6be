"""An accelerated sample beside the plain one: numbers and figures."""

from ..families.request import Settings
from .comparison import Comparison, Row, coarser, compare, table

__all__ = ["Comparison", "Row", "Settings", "coarser", "compare", "table"]
