"""Attacks on folders of `generate --prompts` and `bench`: edits, and kills at any moment, before they are resumed."""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from sadaflow.bench import parse_suite, run_bench
from support.bench import MIXTURE
from support.bench import lines as bench_lines
from support.many import StandIn, contents, fill

from .checkpoints import broken_bytes
from .outcome import WITHSTOOD, Attack, Attempt, Outcome, judged

COUNT, BATCH = 9, 2


def edit(folder: Path, outside: Path, draw: random.Random) -> None:
    """Damages one to three files of a folder: cut, exchanged, removed, linked to another place, or edited by lines."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    records = [path for path in files if path.suffix.startswith(".json")]
    chosen = records if draw.random() < 0.6 else files
    for path in draw.sample(chosen, min(len(chosen), draw.choice((1, 1, 2, 3)))):
        content = path.read_bytes()
        match draw.randrange(9):
            case 0:
                path.unlink()
            case 1:
                path.write_bytes(b"")
            case 2:
                path.write_bytes(content[: draw.randrange(len(content) + 1)])
            case 3:
                path.write_bytes(draw.choice(files).read_bytes() if draw.choice(files).is_file() else b"?")
            case 4:
                path.unlink()
                path.symlink_to(outside)
            case 5 | 6:
                path.write_bytes(_lines(content, draw))
            case 7:
                path.with_name(f".{path.name}.host.1.part").write_bytes(content)
            case _:
                path.write_bytes(broken_bytes(content, draw))


def _lines(content: bytes, draw: random.Random) -> bytes:
    lines = content.splitlines(keepends=True) or [b"\n"]
    index = draw.randrange(len(lines))
    match draw.randrange(6):
        case 0:
            del lines[index]
        case 1:
            lines.insert(index, draw.choice(lines))
        case 2:
            draw.shuffle(lines)
        case 3:
            lines[index] = lines[index].replace(draw.choice((b"1", b"0", b"true", b"null")), b"7", 1)
        case 4:
            lines.insert(index, draw.choice((b"[" * 99999 + b"\n", b"{}\n", b"NaN\n", b"\xff\n", b"null\n", b"[]\n")))
        case _:
            lines[index] = lines[index].replace(b'.png"', b'.png", "file": "../outside"', 1)
    return b"".join(lines)


def _run_folder(shared: Path) -> Attempt:
    fill(shared / "whole", COUNT, BATCH, StandIn()).merge()
    expected = contents(shared / "whole")

    def attempt(seed: int, place: Path) -> Outcome:
        draw, folder, outside = random.Random(seed), place / "folder", place / "outside"
        outside.write_text("outside")
        shutil.copytree(shared / "whole", folder)
        if draw.random() < 0.3:
            (folder / "manifest.jsonl").unlink()
        edit(folder, outside, draw)

        def action() -> None:
            fill(folder, COUNT, BATCH, StandIn(), resume=True).merge()

        return _outcome(judged(action, str(place)), lambda: _same(contents(folder), expected), outside, place)

    return attempt


def _same(found: dict[str, bytes], expected: dict[str, bytes]) -> bool:
    return {name: content for name, content in found.items() if name in expected} == expected


def _outcome(failed: Outcome | None, same: Callable[[], bool], outside: Path, place: Path) -> Outcome:
    if outside.read_text() != "outside" or {path.name for path in place.iterdir()} - {"folder", "outside"}:
        return Outcome("touched outside", f"{list(place.iterdir())}")
    if failed is not None:
        return failed
    return WITHSTOOD if same() else Outcome("wrong result", "the files are not those of an undisturbed run")


def _bench_folder(shared: Path) -> Attempt:
    suite = parse_suite(MIXTURE, "m")
    run_bench(suite, shared / "whole")
    expected = [json.dumps(line) for line in bench_lines(shared / "whole")]
    table = (shared / "whole/table.md").read_text()

    def attempt(seed: int, place: Path) -> Outcome:
        draw, folder, outside = random.Random(seed), place / "folder", place / "outside"
        outside.write_text("outside")
        shutil.copytree(shared / "whole", folder)
        edit(folder, outside, draw)

        def same() -> bool:
            found = [json.dumps(line) for line in bench_lines(folder)]
            return found == expected and (folder / "table.md").read_text() == table

        return _outcome(judged(lambda: run_bench(suite, folder, resume=True), str(place)), same, outside, place)

    return attempt


class _Slow(StandIn):
    """Takes some time, in which it can be killed."""

    def __call__(self, prompts):  # type: ignore[no-untyped-def]
        time.sleep(0.004)
        return super().__call__(prompts)


def _kills(shared: Path) -> Attempt:
    fill(shared / "whole", COUNT, BATCH, StandIn()).merge()
    expected = contents(shared / "whole")

    def attempt(seed: int, place: Path) -> Outcome:
        draw, folder, outside = random.Random(seed), place / "folder", place / "outside"
        outside.write_text("outside")
        for _ in range(4):
            usual = signal.signal(signal.SIGINT, signal.SIG_IGN)  # until the child can end itself
            child = os.fork()
            if child == 0:
                try:
                    signal.signal(signal.SIGINT, usual)
                    fill(folder, COUNT, BATCH, _Slow(), resume=True).merge()
                finally:
                    os._exit(0)
            signal.signal(signal.SIGINT, usual)
            time.sleep(draw.uniform(0, 0.06))
            os.kill(child, draw.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)))
            os.waitpid(child, 0)

        def action() -> None:
            fill(folder, COUNT, BATCH, StandIn(), resume=True).merge()

        return _outcome(judged(action, str(place)), lambda: contents(folder) == expected, outside, place)

    return attempt


ATTACKS = (
    Attack(
        "folders of bulk runs", "records, pictures and settings damaged, exchanged, linked or edited", _run_folder, 60
    ),
    Attack(
        "folders of benches", "records, references and headers damaged, exchanged, linked or edited", _bench_folder, 10
    ),
    Attack("kills", "four times KILL, TERM or INT at any moment of a bulk run, then resumed", _kills, 12),
)
