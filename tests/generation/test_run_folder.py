"""The folder of a bulk run that was edited or damaged: what is wrong is said and sampled again, or refused."""

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sadaflow.generation.batch_record import encode_batch, read_batch
from sadaflow.generation.batches import sample_many
from sadaflow.generation.run_folder import Folder
from sadaflow.generation.workers import Shard
from support.many import StandIn, contents, fill, prompts_of

RECORD, PICTURE = "batches/000001.jsonl", "000003.png"


def _lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        file = folder / RECORD
        file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))

    return spoil


def _sealed(change: Callable[[dict[str, object]], object]) -> Callable[[Path], object]:
    """An edit by someone who also writes the checksum."""

    def spoil(folder: Path) -> None:
        _, lines = read_batch(folder / RECORD)
        edited = [dict(line) for line in lines]
        change(edited[1])
        (folder / RECORD).write_bytes(encode_batch(edited))

    return spoil


def _link(folder: Path) -> None:
    outside = (folder / PICTURE).rename(folder.parent / "outside.png")
    (folder / PICTURE).symlink_to(outside)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a line missing": _lines(lambda old: old[1:]),
    "a line twice": _lines(lambda old: [old[0], *old]),
    "lines exchanged": _lines(lambda old: [old[1], old[0], old[2]]),
    "no last line": _lines(lambda old: old[:-1]),
    "a digit": _lines(lambda old: [old[0].replace(b'"nfe": ', b'"nfe": 1'), *old[1:]]),
    "cut": _lines(lambda old: [old[0], old[1][:20]]),
    "empty": lambda folder: (folder / RECORD).write_bytes(b""),
    "nested": lambda folder: (folder / RECORD).write_bytes(b"[" * 99999),
    "not UTF-8": lambda folder: (folder / RECORD).write_bytes(b"\xff\xfe\n"),
    "another batch's": lambda folder: shutil.copy(folder / "batches/000000.jsonl", folder / RECORD),
    "sealed, another file": _sealed(lambda line: line.update(file="../outside.png")),
    "sealed, another index": _sealed(lambda line: line.update(index=0)),
    "sealed, another prompt": _sealed(lambda line: line.update(prompt="cat")),
    "sealed, another seed": _sealed(lambda line: line.update(seed=1)),
    "sealed, no file": _sealed(lambda line: line.update(file=None)),
    "sealed, no index": _sealed(lambda line: line.pop("index")),
    "sealed, a boolean": _sealed(lambda line: line.update(index=True)),
    "an empty picture": lambda folder: (folder / PICTURE).write_bytes(b""),
    "no picture": lambda folder: (folder / PICTURE).unlink(),
    "another picture": lambda folder: shutil.copy(folder / "000000.png", folder / PICTURE),
    "a link": _link,
    "a pipe": lambda folder: ((folder / PICTURE).unlink(), os.mkfifo(folder / PICTURE)),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_damaged_is_said_and_sampled_again(what: str, tmp_path: Path) -> None:
    fill(tmp_path / "a", 8, 2, StandIn()).merge()
    before = contents(tmp_path / "a")
    (tmp_path / "outside.png").write_bytes(b"not ours")
    DAMAGE[what](tmp_path / "a")
    outside = (tmp_path / "outside.png").read_bytes()
    prompts, said, maker = prompts_of(8), list[str](), StandIn()
    folder = Folder(tmp_path / "a", {"batch": 2, "weights": "0"}, prompts, 2)
    with folder.begin(True, said.append):
        sample_many(folder, prompts, 2, maker, Shard())
        folder.merge()
    assert maker.calls == [[2, 3]] and contents(tmp_path / "a") == before
    assert len(said) == 1 and "batch 1 is sampled again" in said[0] and str(tmp_path / "a") in said[0]
    assert not (tmp_path / "a" / PICTURE).is_symlink() and (tmp_path / "outside.png").read_bytes() == outside


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "damaged"),
        (b"[]", "holds a list"),
        (b"[" * 99999, "damaged"),
        (b"", "damaged"),
        (b'{"format": NaN}', "NaN"),
        (b'{"format": 2, "format": 2}', "twice"),
        (b"{}", "format null"),
        (b'{"format": 3}', "format 3"),
        (b'{"format": 2}', "another batch"),
    ],
)
def test_a_header_that_is_none_is_refused_and_kept(content: bytes, words: str, tmp_path: Path) -> None:
    fill(tmp_path / "a", 4, 2, StandIn())
    (tmp_path / "a/run.json").write_bytes(content)
    before = contents(tmp_path / "a")
    with pytest.raises(ValueError, match=words) as caught:
        fill(tmp_path / "a", 4, 2, StandIn(), resume=True)
    assert "another folder" in str(caught.value) and contents(tmp_path / "a") == before
    assert str(tmp_path / "a") in str(caught.value) and len(str(caught.value)) < 500


def test_a_header_is_written_whole(tmp_path: Path) -> None:
    fill(tmp_path / "a", 4, 2, StandIn())
    assert json.loads((tmp_path / "a/run.json").read_text()) == {"format": 2, "batch": 2, "weights": "0"}


def test_a_linked_folder_of_records_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "a", 4, 2, StandIn())
    (tmp_path / "a/batches").rename(tmp_path / "outside")
    (tmp_path / "a/batches").symlink_to(tmp_path / "outside")
    before = contents(tmp_path / "outside")
    with pytest.raises(ValueError, match="batches is a link"):
        fill(tmp_path / "a", 4, 2, StandIn(), resume=True)
    assert contents(tmp_path / "outside") == before


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks")
@pytest.mark.parametrize("resume", [False, True])
def test_of_commands_that_start_together_exactly_one_works(resume: bool, tmp_path: Path) -> None:
    """Twenty times two starts on one folder: the pictures are those of one start."""
    fill(tmp_path / "whole", 6, 2, StandIn()).merge()
    for trial in range(20):
        ready, outcomes, made = threading.Barrier(2), list[str](), list[list[int]]()

        def start(path: Path, ready: threading.Barrier, outcomes: list[str], made: list[list[int]]) -> None:
            maker = StandIn()
            ready.wait()
            try:
                fill(path, 6, 2, maker, resume=resume).merge()
                outcomes.append("done")
            except (BlockingIOError, FileExistsError) as error:
                outcomes.append(type(error).__name__)
            made.extend(maker.calls)

        path = tmp_path / str(trial)
        threads = [threading.Thread(target=start, args=(path, ready, outcomes, made)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert "done" in outcomes and contents(path) == contents(tmp_path / "whole")
        assert sorted(made) == [[0, 1], [2, 3], [4, 5]]  # each batch once, also if the second came after the first
