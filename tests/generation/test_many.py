"""The loop of bulk generation: equal files however the run is divided, stopped or damaged."""

import errno
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sadaflow.files.folder_lock import occupied
from sadaflow.generation.batches import Made, sample_many, share_size
from sadaflow.generation.prompt_file import Prompt
from sadaflow.generation.run_folder import Folder
from sadaflow.generation.workers import Shard
from support.many import StandIn, contents, fill, lines, prompts_of


@settings(derandomize=True, deadline=None, max_examples=12)
@given(
    count=st.integers(1, 20),
    batch=st.integers(1, 7),
    starts=st.lists(st.tuples(st.integers(1, 8), st.integers(0, 4)), max_size=4),
    bad=st.frozensets(st.integers(0, 19), max_size=3),
    room=st.integers(1, 7),
)
def test_whoever_samples_and_however_often_stopped_the_files_are_the_same(
    count: int, batch: int, starts: list[tuple[int, int]], bad: frozenset[int], room: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    """`starts`: of how many processes a start consists, and after how many calls each is interrupted."""
    root = tmp_path_factory.mktemp("many")
    whole = fill(root / "whole", count, batch, StandIn(bad, room))
    tally = whole.merge()
    assert tally is not None and (tally.lines, tally.failed) == (count, sorted(i for i in bad if i < count))
    for size, stop in [*starts, (2, 10**9)]:
        for rank in range(size):
            try:
                maker = StandIn(bad, room, stop_after=stop)
                folder = fill(root / "parts", count, batch, maker, Shard(rank, size), resume=True)
            except KeyboardInterrupt:
                continue
            folder.merge()
    assert contents(root / "parts") == contents(root / "whole")
    shutil.rmtree(root)


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks")
def test_a_folder_that_another_command_fills_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "a", 4, 2, StandIn())
    part = tmp_path / "a" / ".000001.png.host.1.part"
    part.write_bytes(b"half")
    with occupied(tmp_path / "a"), occupied(tmp_path / "a"):  # two processes of one command
        with pytest.raises(BlockingIOError, match="another command is writing to the folder"):
            fill(tmp_path / "a", 4, 2, StandIn(), resume=True)
        assert part.exists()
    fill(tmp_path / "a", 4, 2, StandIn(), resume=True)
    assert not part.exists()


def test_only_what_is_missing_is_sampled(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "a", 10, 2, first := StandIn(stop_after=3))
    fill(tmp_path / "a", 10, 2, second := StandIn(), resume=True)
    assert first.calls + second.calls == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    fill(tmp_path / "a", 10, 2, third := StandIn(), resume=True)
    assert third.calls == []


def test_processes_share_the_batches_and_the_last_merges(tmp_path: Path) -> None:
    makers = [StandIn() for _ in range(3)]
    for rank, maker in enumerate(makers):
        tally = fill(tmp_path / "a", 9, 2, maker, Shard(rank, 3)).merge()
        assert (tally is None) == (rank < 2)
    assert [maker.calls for maker in makers] == [[[0, 1], [6, 7]], [[2, 3], [8]], [[4, 5]]]
    assert [share_size(9, 2, Shard(rank, 3)) for rank in range(3)] == [4, 3, 2]
    assert [line["index"] for line in lines(tmp_path / "a")] == list(range(9))


def test_a_prompt_that_fails_is_told_of_and_holds_up_no_other(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", 8, 4, maker := StandIn(frozenset({1})))
    tally = folder.merge()
    assert maker.calls == [[0, 1, 2, 3], [0, 1], [0], [1], [2, 3], [4, 5, 6, 7]]
    assert tally is not None and tally.failed == [1]
    found = lines(folder.path)
    assert [(line["error"], line["together"]) for line in found[:4]] == [
        (None, 1), ("FloatingPointError: x0 is not finite", 1), (None, 2), (None, 2)
    ]  # fmt: skip
    assert found[1]["file"] is None and found[1]["prompt"] == "prompt 1" and found[1]["nfe"] is None
    assert not (folder.path / "000001.png").exists()


def test_failed_prompts_are_tried_again_with_their_batch(tmp_path: Path) -> None:
    fill(tmp_path / "a", 8, 4, StandIn(frozenset({1}))).merge()
    folder = fill(tmp_path / "a", 8, 4, maker := StandIn(), resume=True)
    assert maker.calls == [[0, 1, 2, 3]]
    assert not folder.manifest.exists()  # the old one was of the failure
    assert (tally := folder.merge()) is not None and tally.failed == []
    fill(tmp_path / "b", 8, 4, StandIn()).merge()
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_batch_that_does_not_fit_into_memory_is_halved(tmp_path: Path) -> None:
    said: list[str] = []
    folder = Folder(tmp_path / "a", {}, prompts_of(5), 5)
    with folder.begin(False):
        sample_many(folder, prompts_of(5), 5, StandIn(room=2), Shard(), say=said.append)
    folder.merge()
    assert [line["together"] for line in lines(folder.path)] == [2, 2, 1, 2, 2]
    assert said[0].startswith("prompts 0 to 4: not enough memory") and len(said) == 2
    assert "0x7f" not in folder.manifest.read_text()  # nothing that differs from run to run


def test_other_errors_of_the_runtime_are_not_taken_for_a_bad_prompt(tmp_path: Path) -> None:
    class Broken(StandIn):
        def __call__(self, prompts: Sequence[Prompt]) -> list[Made]:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        fill(tmp_path / "a", 4, 2, Broken())


@pytest.mark.parametrize("count", range(6))
def test_a_full_disk_loses_nothing_that_was_finished(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the `count`-th file behind the header."""
    fill(tmp_path / "whole", 4, 2, StandIn()).merge()
    files, sync = iter(range(100)), os.fsync

    def full(descriptor: int) -> None:
        if next(files) > count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as small:
        small.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            fill(tmp_path / "a", 4, 2, StandIn()).merge()
            raise AssertionError
    kept = contents(tmp_path / "a")
    assert not any(name.endswith(".part") for name in kept)
    fill(tmp_path / "a", 4, 2, again := StandIn(), resume=True).merge()
    assert len(again.calls) == (2 if count < 3 else 1)
    assert contents(tmp_path / "a") == contents(tmp_path / "whole")
    assert kept.items() <= contents(tmp_path / "whole").items()


@pytest.mark.parametrize("empty", [False, True])
def test_a_vanished_folder_is_not_made_again(empty: bool, tmp_path: Path) -> None:
    """As when a disk is taken away, which may leave an empty folder in its place."""
    path = tmp_path / "a"

    class Vanishing(StandIn):
        def __call__(self, prompts: Sequence[Prompt]) -> list[Made]:
            if self.calls:
                shutil.rmtree(path)
                if empty:
                    path.mkdir()
            return super().__call__(prompts)

    with pytest.raises(FileNotFoundError, match="has vanished while it was filled"):
        fill(path, 6, 2, Vanishing())
    assert path.exists() == empty and contents(tmp_path) == {}


def test_damage_by_hand_is_repaired(tmp_path: Path) -> None:
    fill(tmp_path / "a", 12, 2, StandIn()).merge()
    before = contents(tmp_path / "a")
    (tmp_path / "a" / "000001.png").unlink()
    (tmp_path / "a" / "batches" / "000001.jsonl").write_text("{")
    (tmp_path / "a" / "batches" / "000002.jsonl").write_text("{}\n")
    (tmp_path / "a" / ".000003.png.host.1.part").write_text("torn")
    fill(tmp_path / "a", 12, 2, maker := StandIn(), resume=True).merge()
    assert maker.calls == [[0, 1], [2, 3], [4, 5]] and contents(tmp_path / "a") == before
