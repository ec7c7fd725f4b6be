"""The command line as a whole: finds commands by name, and imports the code of the one that is used."""

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from .commands import COMMANDS
from .help import HelpInGroups, write_examples
from .parsers import with_options


class _Commands(TyperGroup):
    """The commands of the table; those of two words are written as such: `bench speed` beside `bench`."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        words = " ".join(args[:2])
        if words in COMMANDS:
            return words, load_command(words), args[2:]
        if args[0] not in COMMANDS:
            ctx.fail(_unknown(args))
        return args[0], load_command(args[0]), args[1:]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])
        write_examples(formatter, [command.examples[0] for command in COMMANDS.values() if command.examples][:3])


def load_command(name: str) -> Any:
    """The command of a name in the table, made of its function's docstring and its dataclass of flags."""
    entry = COMMANDS[name]
    function = getattr(import_module(f".{entry.module}", __package__), entry.function)
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command(name, cls=HelpInGroups, short_help=entry.summary)(with_options(function))
    return typer.main.get_command(alone)


def _unknown(args: list[str]) -> str:
    """The error for a command that does not exist."""
    from sadaflow.solvers.names.settings import nearest  # imports torch

    begun = [name for name in COMMANDS if name.startswith(f"{args[0]} ")]
    near = f" (did you mean {' or '.join(map(repr, begun))}?)" if begun else nearest(args[0], COMMANDS)
    return f"no such command {args[0]!r}{near}; known: {', '.join(COMMANDS)}"


def _show_version(show: bool) -> None:
    if show:
        typer.echo(f"sadaflow {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="sadaflow",
    cls=_Commands,
    help="Sample images and music from diffusion checkpoints, with stability-guided adaptive acceleration (SADA).",
    epilog="sadaflow COMMAND --help shows the flags of a command, with examples.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Takes the flags of `sadaflow` itself."""
