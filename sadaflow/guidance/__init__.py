"""Guidance rules: how the predictions with and without a condition become one."""

from .apg import APG
from .base import Branches, Moment, Needs, Rule, Wrapper
from .cfg import CFG, Scaled, as_rule
from .cfg_plus_plus import CFGPlusPlus
from .compose import Compose
from .interval import Interval
from .late import Late
from .length import KeepLength
from .registry import GUIDANCE, guidance_text, make_guidance, register_guidance
from .rescale import Rescale
from .scale import Cosine, Linear, Scale
from .threshold import Threshold
from .zero_star import CFGZeroStar

__all__ = [
    "APG",
    "CFG",
    "GUIDANCE",
    "Branches",
    "CFGPlusPlus",
    "CFGZeroStar",
    "Compose",
    "Cosine",
    "Interval",
    "KeepLength",
    "Late",
    "Linear",
    "Moment",
    "Needs",
    "Rescale",
    "Rule",
    "Scale",
    "Scaled",
    "Threshold",
    "Wrapper",
    "as_rule",
    "guidance_text",
    "make_guidance",
    "register_guidance",
]
