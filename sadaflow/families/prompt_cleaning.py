"""Cleans prompts as some published pipelines do before they are tokenized."""

import html
import re

_SPACE = re.compile(r"\s+")


def cleaned(prompt: str) -> str:
    """The prompt with HTML entities resolved, twice, and with single spaces.

    Text that was decoded by a wrong encoding is repaired if the package ftfy is installed, as in the published code.
    """
    try:
        from ftfy import fix_text
    except ImportError:
        fixed = prompt
    else:
        fixed = fix_text(prompt)
    return _SPACE.sub(" ", html.unescape(html.unescape(fixed))).strip()
