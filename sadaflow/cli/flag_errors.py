"""Errors of the library in the words of the command line: `--steps 3` in place of `steps=3`."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def errors_in_flags(names: Mapping[str, str]) -> Iterator[None]:
    """Context manager in which the text of a ValueError names flags in place of arguments.

    Args:
        names: The flag of each argument: {"accelerator": "accelerate"}.
    """
    try:
        yield
    except ValueError as error:
        if len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (in_flags(error.args[0], names),)
        raise


def in_flags(text: str, names: Mapping[str, str]) -> str:
    """The text with `name=value` written as `--flag value`, and `name=`, or `name: ` at its start, as `--flag`.

    Quoted text is left as it is, and so are calls: 'uniform every=3', SubGrid(steps=5).

    Args:
        text: An error.
        names: The flag of each argument.
    """
    known = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    pattern = rf"""(?<!\w)(?:'[^']*'|"[^"]*")(?!\w)|(?<![\w.-])(?<!\w\()({known})=(True\b)?(?=(\S?))"""

    def written(name: str) -> str:
        return f"--{names[name].replace('_', '-')}"

    def flag(match: re.Match[str]) -> str:
        name, true, following = match.groups()
        if name is None:
            return match[0]
        ends = true or not following or following in ",;:.)"
        return written(name) if ends else f"{written(name)} "

    text = re.sub(pattern, flag, text)
    return re.sub(rf"^({known})(?=(\[\d+\])?: )", lambda match: written(match[1]), text)
