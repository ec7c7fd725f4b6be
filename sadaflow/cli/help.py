"""Shows the help of a command: its flags in groups, each on a short line, and examples."""

from collections.abc import Iterable
from typing import Any, Final

from typer.core import TyperCommand

from .commands import COMMANDS

BASICS: Final = "Basics"
ACCELERATION: Final = "Acceleration"
GUIDANCE: Final = "Guidance"
PICTURES: Final = "Pictures in"
ADAPTERS: Final = "ControlNet and adapters"
WORDS: Final = "Words"
MODEL: Final = "Model-specific"
LOADING: Final = "Loading"
MEMORY: Final = "Memory and devices"
MANY: Final = "Many prompts"
PREVIEWS: Final = "Previews"
RUN: Final = "Running the command"
_OTHER: Final = "Options"
_ORDER: Final = (
    BASICS, ACCELERATION, GUIDANCE, PICTURES, ADAPTERS, WORDS, MODEL, LOADING, MEMORY, MANY, PREVIEWS, _OTHER, RUN,
)  # fmt: skip


class HelpInGroups(TyperCommand):
    """A command whose help shows the flags by their groups (`rich_help_panel`), as plain text."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {name: [] for name in ("Arguments", *_ORDER)}
        for parameter in self.get_params(ctx):
            group = getattr(parameter, "rich_help_panel", None) or _OTHER
            positional = parameter.param_type_name == "argument"
            if parameter.name == "help":
                group = RUN if groups[RUN] else _OTHER
            groups["Arguments" if positional else group].append(_row(parameter))
        for name, rows in groups.items():
            if rows:
                with formatter.section(name):
                    formatter.write_dl(rows)
        write_examples(formatter, COMMANDS[str(self.name)].examples)


def write_examples(formatter: Any, examples: Iterable[str]) -> None:
    """Write a block of command lines, which are not wrapped."""
    lines = [f"sadaflow {example}" for example in examples]
    if lines:
        with formatter.section("Examples"):
            formatter.write("".join(f"  {line}\n" for line in lines))


def _row(parameter: Any) -> tuple[str, str]:
    """A flag with the name of its value, and what it does with its default."""
    if parameter.param_type_name == "argument":
        return parameter.metavar or parameter.name.upper(), parameter.help + _default(parameter)
    names = ", ".join(sorted(parameter.opts, key=len) + list(parameter.secondary_opts))
    flag = parameter.is_flag or parameter.count
    return names if flag else f"{names} {parameter.metavar or 'VALUE'}", (parameter.help or "") + _default(parameter)


def _default(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return f" [{parameter.show_default}]"
    if parameter.required:
        return " [required]"
    default = None if callable(parameter.default) else parameter.default
    return "" if default in (None, True, False, [], ()) or default is ... else f" [{default}]"
