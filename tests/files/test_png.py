"""PNG files: text chunks read by Pillow and by hand, atomic writes, and no silent overwriting."""

import errno
import json
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from sadaflow.files.atomic import check_target, write_atomically
from sadaflow.files.metadata import Recipe
from sadaflow.files.png import read_text, write_png

RECIPE = Recipe(
    prompt="red apple, on a table",
    negative_prompt="blurry",
    model="org/name@0123abcd",
    steps=50,
    solver="dpmpp2m",
    guidance=7.5,
    seed=3,
    width=24,
    height=16,
    accelerator="sada",
    nfe=27.5,
    modes=("full", "skip"),
    versions={"sadaflow": "0.1.0"},
)
PICTURE = Image.linear_gradient("L").resize((24, 16)).convert("RGB")


def raw_chunks(path: Path) -> dict[str, tuple[str, bytes]]:
    """Text chunks by keyword, as (chunk type, payload), read from the file format itself (PNG 11.3.4)."""
    data, found, at = path.read_bytes(), {}, 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        if kind in (b"tEXt", b"iTXt"):
            keyword, payload = body.split(b"\0", 1)
            found[keyword.decode("latin-1")] = (kind.decode(), payload)
        at += 12 + length
    return found


def test_a1111_parameters() -> None:
    assert RECIPE.parameters() == (
        "red apple, on a table\n"
        "Negative prompt: blurry\n"
        "Steps: 50, Sampler: dpmpp2m, CFG scale: 7.5, Seed: 3, Size: 24x16, Model: org/name@0123abcd, "
        "Accelerator: sada, NFE: 27.5, sadaflow version: 0.1.0"
    )


def test_values_with_separators_are_quoted() -> None:
    last = replace(RECIPE, model='C:\\models\\a, "b"').parameters().splitlines()[-1]
    assert 'Model: "C:\\\\models\\\\a, \\"b\\"", Accelerator' in last


def test_unknown_values_are_left_out() -> None:
    bare = Recipe(prompt="x", model="m", steps=4, seed=0, width=8, height=8)
    assert bare.parameters() == "x\nSteps: 4, Seed: 0, Size: 8x8, Model: m"


def test_latin_text_is_text_and_repeats_the_run(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.png"
    write_png(path, PICTURE, RECIPE.chunks())
    assert {key: kind for key, (kind, _) in raw_chunks(path).items()} == {"parameters": "tEXt", "sadaflow": "tEXt"}
    fields = json.loads(read_text(path)["sadaflow"])
    assert Recipe(**{**fields, "modes": tuple(fields["modes"])}) == RECIPE
    with Image.open(path) as image:
        assert image.tobytes() == PICTURE.tobytes()


def test_other_scripts_are_international_text(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_png(path, PICTURE, replace(RECIPE, prompt="красное яблоко 🍎").chunks())
    kind, payload = raw_chunks(path)["parameters"]
    assert kind == "iTXt"
    assert "красное яблоко 🍎".encode() in payload
    assert json.loads(read_text(path)["sadaflow"])["prompt"] == "красное яблоко 🍎"


def test_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_png(tmp_path / name, PICTURE.copy(), RECIPE.chunks())
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_an_existing_file_is_kept_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="a.png' exists and is kept"):
        write_png(path, PICTURE)
    assert path.read_bytes() == b"mine"
    write_png(path, PICTURE, overwrite=True)
    with Image.open(path) as image:
        assert image.size == (24, 16)


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    save = Image.Image.save

    def slow_save(self: Image.Image, *args: object, **kwargs: object) -> None:
        save(self, *args, **kwargs)  # type: ignore[arg-type]
        path.write_bytes(b"somebody else's")

    monkeypatch.setattr(Image.Image, "save", slow_save)
    with pytest.raises(FileExistsError, match="kept"):
        write_png(path, PICTURE)
    assert path.read_bytes() == b"somebody else's"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_save(self: Image.Image, file: object, **kwargs: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", broken_save)
    with pytest.raises(OSError, match="disk full"):
        write_png(tmp_path / "a.png", PICTURE)
    assert list(tmp_path.iterdir()) == []


def test_an_atomic_write_replaces_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    write_atomically(file, b"old")
    write_atomically(file, b"new")
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            write_atomically(file, b"newest")
    assert file.read_bytes() == b"new" and list(tmp_path.iterdir()) == [file]
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "vanished" / "a", b"new")
    assert not (tmp_path / "vanished").exists()


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_impossible_places_are_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match="must end in .png"):
        check_target(tmp_path / "a.jpg")
    with pytest.raises(FileExistsError, match="is a folder"):
        check_target(tmp_path / "folder.png", overwrite=True)
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        check_target(tmp_path / "file" / "deeper" / "a.png")
    check_target(tmp_path / "not" / "yet" / "a.png")
    assert not (tmp_path / "not").exists()
