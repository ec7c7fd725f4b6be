"""Runs the parts one after the other, each in its own process, which is killed when its time is over."""

import faulthandler
import importlib
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from ...loading.transformers_package import transformers_module
from . import theirs
from .book import Book
from .records import Part, Setup, failure

_GRACE = 1.0
"""Seconds before a part is killed, at which it says where it is."""

_PROBE = 60.0


@dataclass(frozen=True)
class Ended:
    """How a process ended: "done", "timed out" or the cause of its death; and where it was if it timed out."""

    how: str
    where: str = ""


def run_parts(parts: Sequence[Part], setup: Setup, book: Book, method: str) -> None:
    """Runs `parts`, in processes started by `method`, until `setup.deadline`.

    Each part gets its share of the time that is left, so time that a part does not use goes to the later parts.
    """
    for number, part in enumerate(parts):
        box = setup.left() * part.share(setup.small) / sum(one.share(setup.small) for one in parts[number:])
        began = time.monotonic()
        book.write(part.name, {"begun": {"letter": part.letter, "title": part.title}})
        own = replace(setup, deadline=began + box, earlier=tuple(book.records))
        ended = _run_apart(method, part, own, book)
        spent = time.monotonic() - began
        book.write(part.name, {"ended": ended.how, "seconds": spent, "box": box, "note": ended.where})
        print(f"{part.name}: {ended.how} after {spent:.1f} s", flush=True)


def _run_apart(method: str, part: Part, setup: Setup, book: Book) -> Ended:
    """Runs a part in its own process, and writes its records as they arrive."""
    context: Any = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.NamedTemporaryFile(suffix=".stack") as stack:
        process = context.Process(target=_child, args=(part, setup, sender, book.log, Path(stack.name)))
        process.start()
        sender.close()
        timed_out = True
        try:
            while receiver.poll(max(0.0, setup.left())):
                book.write(part.name, receiver.recv())
        except (EOFError, OSError):  # it has ended
            timed_out = False
            process.join(max(0.0, setup.left()))
        finally:
            _kill(process)
            receiver.close()
        if timed_out:
            return Ended("timed out", _innermost(Path(stack.name).read_text("utf-8", "replace"), setup.root))
    code = process.exitcode
    if code == 0:
        return Ended("done")
    return Ended(f"died of signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}")


def _child(part: Part, setup: Setup, sender: Connection, log: Path, stack: Path) -> None:
    """Runs in the process of a part: output goes to the log, records to the parent."""
    os.setpgid(0, 0)  # so that its child processes are killed with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with written_to(log), stack.open("w") as place:
        print(f"== {part.name}", flush=True)
        faulthandler.enable(2)
        faulthandler.dump_traceback_later(max(0.1, setup.left() - _GRACE), file=place)
        try:
            for record in part.run(setup):
                sender.send(record)
        except BaseException as error:  # noqa: BLE001 - any failure is the result of this part
            traceback.print_exc()
            sender.send(failure(part.name, error, setup.root))
    sender.close()
    os._exit(0)  # do not wait for threads or compilers that the part has left


@contextmanager
def written_to(log: Path) -> Iterator[None]:
    """Redirects the output of this process, with libraries and child processes, to `log`."""
    streams = (sys.stdout, sys.stderr)
    kept = [os.dup(stream) for stream in (1, 2)]
    with log.open("ab", buffering=0) as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    try:
        yield
    finally:
        for open_stream in streams:
            open_stream.flush()
        for stream, before in zip((1, 2), kept, strict=True):
            os.dup2(before, stream)
            os.close(before)


def _kill(process: Any) -> None:
    """Ends a process and all processes that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.join(_GRACE)  # a process blocked in the driver cannot be ended: do not wait for it


def _innermost(traces: str, root: Path) -> str:
    """Returns the innermost line of the checkout in a traceback of `faulthandler`, which lists the innermost first."""
    found = re.findall(r'File "([^"]+)", line (\d+) in (\S+)', traces.rpartition("Current thread")[2] or traces)
    inside = [one for one in found if root in Path(one[0]).parents and ".venv" not in one[0]] or found
    if not inside:
        return ""
    file, line, function = inside[0]
    return f"in {function}, {os.path.relpath(file, root)}:{line}"


def preload(diffusers: bool) -> None:
    """Imports what several parts need, and what torch imports lazily, before their processes are forked."""
    for name in ("torch._dynamo", "torch._inductor.config", "torch.utils.flop_counter"):
        importlib.import_module(name)
    for load in (transformers_module, *([theirs.preload] if diffusers else [])):
        try:
            load()
        except Exception:  # noqa: BLE001 - the parts that need it report the failure, the others continue
            traceback.print_exc()


def start_method(cuda: bool) -> str:
    """Chooses how processes are started: "fork", which saves importing torch in every part, or "spawn".

    "spawn" is chosen if CUDA does not work in a forked process.

    Raises:
        ValueError: If `cuda` is required and works in neither.
    """
    methods = ("fork", "spawn") if sys.platform == "linux" else ("spawn",)
    if not cuda:
        return methods[0]
    for method in methods:
        context: Any = multiprocessing.get_context(method)
        process = context.Process(target=_use_cuda)
        process.start()
        process.join(_PROBE)
        process.kill()
        process.join()
        if process.exitcode == 0:
            return method
    raise ValueError("no CUDA device works here; --small rehearses all parts on the CPU")


def _use_cuda() -> None:
    torch.zeros(1, device="cuda").add_(1).cpu()
