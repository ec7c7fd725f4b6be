"""Cleans prompts as some published pipelines do before they are tokenized."""

import html
import re
from importlib import import_module

_SPACE = re.compile(r"\s+")


def cleaned(prompt: str) -> str:
    """The prompt with HTML entities resolved, twice, and with single spaces.

    Text that was decoded by a wrong encoding is repaired if the package ftfy is installed, as in the published code.
    """
    try:
        fixed: str = import_module("ftfy").fix_text(prompt)
    except ImportError:
        fixed = prompt
    return _SPACE.sub(" ", html.unescape(html.unescape(fixed))).strip()
