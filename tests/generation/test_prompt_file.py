"""Prompt files: three formats with the same content, and errors that name file and line."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sadaflow.generation.prompt_file import Prompt, read_prompt_file

WRITABLE = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
LINES = WRITABLE.map(str.strip).filter(lambda text: text and "\n" not in text)
NAMES = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,9}", fullmatch=True)
ENTRIES = st.lists(
    st.fixed_dictionaries(
        {"prompt": WRITABLE},
        optional={"seed": st.integers(0, 2**63 - 1), "negative_prompt": WRITABLE.filter(bool), "id": NAMES},
    ),
    min_size=1,
    max_size=5,
)  # fmt: skip
law = settings(
    derandomize=True, deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def expected(entries: list[dict[str, Any]], seed: int) -> list[Prompt] | None:
    """What the file must mean; None where two lines have one name."""
    prompts = [
        Prompt(i, str(entry.get("id", f"{i:06d}")), entry["prompt"], entry.get("seed", seed + i),
               entry.get("negative_prompt"))
        for i, entry in enumerate(entries)
    ]  # fmt: skip
    return prompts if len({prompt.name.lower() for prompt in prompts}) == len(prompts) else None


def as_csv(entries: list[dict[str, Any]]) -> str:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, ["id", "seed", "prompt", "negative_prompt"])
    writer.writeheader()
    writer.writerows(entries)
    return file.getvalue()


@law
@given(entries=ENTRIES, seed=st.integers(0, 2**40))
@pytest.mark.parametrize(
    ("name", "write"),
    [("a.jsonl", lambda entries: "\n".join(map(json.dumps, entries))), ("a.csv", as_csv)],
)
def test_what_was_written_is_read(
    name: str, write: Callable[[list[dict[str, Any]]], str], entries: list[dict[str, Any]], seed: int, tmp_path: Path
) -> None:
    file = tmp_path / name
    if name == "a.csv":  # a carriage return beside a line feed inside a cell is one end of a line
        entries = [{key: value.replace("\r\n", "\n") if isinstance(value, str) else value
                    for key, value in entry.items()} for entry in entries]  # fmt: skip
    file.write_bytes(write(entries).encode())
    if (wanted := expected(entries, seed)) is not None:
        assert read_prompt_file(file, seed) == wanted
    else:
        with pytest.raises(ValueError, match="same file as line"):
            read_prompt_file(file, seed)


@law
@given(texts=st.lists(LINES, min_size=1), seed=st.integers(0, 9))
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n \n"])
def test_a_text_file_has_a_prompt_a_line(end: str, texts: list[str], seed: int, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(("\ufeff" + end.join(texts) + end).encode())
    assert read_prompt_file(file, seed) == expected([{"prompt": text} for text in texts], seed)


@law
@given(content=st.binary() | st.text().map(str.encode) | ENTRIES.map(as_csv).map(str.encode), cut=st.integers(0))
@pytest.mark.parametrize("ending", ["txt", "jsonl", "csv"])
def test_any_bytes_are_prompts_or_an_error_that_names_the_file(
    ending: str, content: bytes, cut: int, tmp_path: Path
) -> None:
    file = tmp_path / f"a.{ending}"
    file.write_bytes(content[: cut % (len(content) + 1)])
    try:
        prompts = read_prompt_file(file)
    except ValueError as error:
        assert str(file) in str(error)
    else:
        assert [prompt.index for prompt in prompts] == list(range(len(prompts))) and prompts


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.xml", b"", ["a.xml", ".txt, .jsonl, .csv"]),
        ("a.txt", b"\n \n", ["holds no prompt"]),
        ("a.csv", b"prompt\n", ["holds no prompt"]),
        ("a.txt", b"fine\nbad \xff", ["line 2", "UTF-8"]),
        ("a.txt", b"fine\nbad \0", ["line 2", "'bad \\x00'"]),
        ("a.jsonl", b'{"prompt": "x"}\n\n{"prompt": ', ["line 3", "not valid JSON"]),
        ("a.jsonl", b"[" * 100_000, ["line 1", "not valid JSON"]),
        ("a.jsonl", b'"red apple"', ["line 1", "'red apple'", "expected an object"]),
        ("a.jsonl", b'{"seed": 1}', ["line 1", "no prompt"]),
        ("a.jsonl", b'{"prompt": 3}', ["line 1", "prompt 3"]),
        ("a.jsonl", b'{"prompt": "\\ud800"}', ["line 1", "no file could hold"]),
        ("a.jsonl", b'{"prompt": "x", "steps": 3}', ["line 1", "'steps'", "negative_prompt"]),
        ("a.jsonl", b'{"prompt": "x", "negative_prompt": []}', ["line 1", "negative_prompt []"]),
        ("a.jsonl", b'{"prompt": "x", "seed": -1}', ["line 1", "seed -1"]),
        ("a.jsonl", b'{"prompt": "x", "seed": true}', ["line 1", "seed True"]),
        ("a.jsonl", b'{"prompt": "x", "seed": 9223372036854775808}', ["line 1", "seed 9223372036854775808"]),
        ("a.jsonl", b'{"prompt": "x", "id": "../x"}', ["line 1", "'../x'"]),
        ("a.jsonl", b'{"prompt": "x", "id": ".x"}', ["line 1", "'.x'"]),
        ("a.jsonl", b'{"prompt": "x", "id": "000001"}\n{"prompt": "y"}', ["line 2", "same file as line 1: 000001"]),
        ("a.jsonl", b'{"prompt": "x", "id": "A"}\n{"prompt": "y", "id": "a"}', ["line 2", "same file as line 1"]),
        ("a.csv", b"text\nx\n", ["line 1", "header", "text"]),
        ("a.csv", b"prompt,prompt\nx,y\n", ["line 1", "twice"]),
        ("a.csv", b"prompt,steps\nx,4\n", ["line 2", "'steps'"]),
        ("a.csv", b'prompt,seed\n"two\nlines",1\nx\n', ["line 4", "1 cells", "2"]),
        ("a.csv", b'prompt\nx\n"y', ["line 3", "not valid CSV"]),
        ("a.csv", b"prompt,seed\nx,1.5\n", ["line 2", "'1.5'"]),
        ("a.csv", b"prompt,seed\nx," + b"9" * 5000, ["line 2", "seed '99999"]),
    ],
)  # fmt: skip
def test_bad_lines_are_named(name: str, content: bytes, words: list[str], tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_prompt_file(file)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_missing_file_and_a_seed_beyond_the_last(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.txt"):
        read_prompt_file(tmp_path / "none.txt")
    (tmp_path / "a.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match="line 2 has the seed"):
        read_prompt_file(tmp_path / "a.txt", 2**63 - 1)
