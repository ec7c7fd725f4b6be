"""The `sadaflow` command: its one edge, where every error a user can cause becomes one line and exit code 2."""

import os
import sys
import traceback
from collections.abc import Sequence

# What our code raises for bad input, bad files, an unreachable Hub, a network that answers NaN, a missing extra.
EXPECTED = (ValueError, OSError, FloatingPointError, ImportError)
USAGE_ERROR, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (None: that of the process) and return its exit code: 0, 2 for errors, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        import typer

        from .commands import app
    except ImportError as error:
        return _fail(f"the command line needs more packages ({error}): pip install 'sadaflow[cli]'")
    try:
        code = app(arguments, prog_name="sadaflow", standalone_mode=False)
    except typer.TyperException as error:
        return _fail(error.format_message())
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted, nothing was written", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output went away: stop quietly, also at the interpreter's last flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except EXPECTED as error:
        if "--debug" in arguments:
            traceback.print_exc()
        return _fail(str(error) or type(error).__name__)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int = USAGE_ERROR) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return code
