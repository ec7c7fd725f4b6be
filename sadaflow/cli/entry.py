"""Runs the `sadaflow` command; every error that a user can cause becomes a line of text and exit code 2."""

import os
import sys
import traceback
from collections.abc import Sequence

# Raised for bad input, bad files, an unreachable Hub, an output of NaN, a missing extra.
EXPECTED = (ValueError, OSError, FloatingPointError, ImportError, OverflowError)
NO_MEMORY = "there is not enough memory for this: ask for less at a time, or for a smaller --dtype"
USAGE_ERROR, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments; None takes those of the process.

    Returns:
        The exit code: 0, 2 for errors, 130 for Ctrl-C.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        import typer
    except ModuleNotFoundError as error:
        return _fail(f"{error}: pip install 'sadaflow[cli]'")
    from .commands import app
    from .foreign import importable_here, owner

    try:
        with importable_here():
            code = app(arguments, prog_name="sadaflow", standalone_mode=False)
    except typer.TyperException as error:
        return _fail(error.format_message())
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:  # the reader closed the pipe: stop quietly, also at the interpreter's last flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except EXPECTED as error:
        if "--debug" in arguments:
            traceback.print_exc()
        remedy = ": pip install 'sadaflow[cli]'" if isinstance(error, ModuleNotFoundError) else ""
        return _fail((str(error) or type(error).__name__) + remedy)
    except MemoryError:
        if "--debug" in arguments:
            traceback.print_exc()
        return _fail(NO_MEMORY)
    except Exception as error:
        # torch has a class for a lack of memory on a GPU only
        memory = isinstance(error, RuntimeError) and any(word in str(error) for word in ("memory", "overflowed"))
        message = NO_MEMORY if memory else owner(error)
        if "--debug" in arguments or message is None:
            raise
        return _fail(message)
    if code == INTERRUPTED:  # typer returns this code for Ctrl-C as well
        return _fail("interrupted", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int = USAGE_ERROR) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return code
