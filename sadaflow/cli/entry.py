"""Runs the `sadaflow` command. Every error becomes one line of text and an exit code; --debug shows its traceback."""

import errno
import os
import sys
import traceback
from collections.abc import Sequence

from .current_folder import importable_here
from .terminal import say_error, warnings_on_one_line

DONE, RUN_ERROR, USAGE_ERROR, INTERRUPTED = 0, 1, 2, 130
NO_MEMORY = "there is not enough memory for this: ask for less at a time, or for a smaller --dtype"
ISSUES = "https://github.com/sadaflow/sadaflow/issues"

# Raised for flags, files and checkpoints that do not fit; every message says what to do.
_INPUT = (ValueError, OSError, ImportError, OverflowError)
# Raised while correct input is worked on: outputs of NaN.
_RUN = (FloatingPointError,)
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments; None takes those of the process.

    Returns:
        The exit code: 0; 1 if the run failed (an output of NaN, no memory, a full disk, failed prompts, an error of
        this program); 2 if flags, files or checkpoints do not fit; 130 for Ctrl-C.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        with warnings_on_one_line():
            code = _run(arguments)
            sys.stdout.flush()
    except BrokenPipeError:  # the reader closed the pipe
        _silence_output()
        return RUN_ERROR
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the outermost frame
        return _failed(error, "--debug" in arguments)
    if code == INTERRUPTED:
        say_error("interrupted")
    return code


def _run(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    try:
        import typer
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}: pip install 'sadaflow[cli]'", name=error.name) from error
    from .app import app

    try:
        with importable_here():
            code = app(arguments, prog_name="sadaflow", standalone_mode=False)
    except typer.TyperException as error:
        say_error(error.format_message())
        return USAGE_ERROR
    except typer.Abort:
        return INTERRUPTED
    return code if isinstance(code, int) else DONE


def _failed(error: Exception, debug: bool) -> int:
    """Print an error on one line, after its traceback if `debug`; returns the exit code."""
    message, code, expected = _explained(error)
    if debug:
        traceback.print_exception(error)
        if not expected:
            message += f"; please report this traceback at {ISSUES}, with the command and `sadaflow inspect NAME`"
    say_error(message)
    if isinstance(error, OSError) and error.errno in _DISK:
        _silence_output()  # what is still in the buffer would fail again when the interpreter exits
    return code


def _explained(error: Exception) -> tuple[str, int, bool]:
    """The message for an error, the exit code, and whether it is of an expected class."""
    text = str(error) or type(error).__name__
    if _out_of_memory(error):
        # A ValueError is an estimate, made before any work.
        return (text, USAGE_ERROR, True) if isinstance(error, ValueError) else (NO_MEMORY, RUN_ERROR, True)
    if isinstance(error, RecursionError):
        return f"a file is nested too deeply to be read ({text}); --debug shows where", USAGE_ERROR, False
    if isinstance(error, _RUN) or (isinstance(error, OSError) and error.errno in _DISK):
        return text, RUN_ERROR, True
    if isinstance(error, ModuleNotFoundError) and "pip install" not in text:
        return f"{text}: pip install 'sadaflow[cli]'", USAGE_ERROR, True
    if isinstance(error, _INPUT):
        return text, USAGE_ERROR, True
    from .foreign import owner

    if (theirs := owner(error)) is not None:
        return theirs, USAGE_ERROR, True
    return f"unexpected {type(error).__name__}: {text}; run the command again with --debug", RUN_ERROR, False


def _out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, or a size overflowed; torch has a class for that on a GPU only."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "calculation overflowed")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def _silence_output() -> None:
    """Send the rest of stdout nowhere, also what the interpreter flushes when it exits."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # a stream without a file behind it
        pass
