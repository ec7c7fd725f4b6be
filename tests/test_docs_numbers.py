"""Tables of measurements on the pages name their source, and a source that is older than its code is said."""

import re
import subprocess
from pathlib import Path

import docs_numbers
import pytest
from docs_numbers import State, Table

ROOT = Path(__file__).resolve().parents[1]
TABLES = [table for page in docs_numbers.pages(ROOT)
          for table in docs_numbers.tables(page.read_text("utf-8"), page.relative_to(ROOT).as_posix())]  # fmt: skip

PAGE = """# A

| setting | default |
|---|---|
| `a` | none |
| `b` | 3 |

| method | dB | cost |
|---|---|---|
| `x` | **41.2** / 30.1 | - |
| `y` | >= 9 | many |

| method | error |
|---|---|
| `x` | 1e-5 |

Source: `make this --out
FOLDER`, commit 0123abc, code `models` `solvers/base.py`; two cores.

## B

```
| text | 1.5 |
|---|---|
| of | 1.5 |
```

| a | b |
|---|---|
| c | 2.25 |

## C

Source: of another section.
"""


def test_every_table_of_measurements_has_a_source() -> None:
    assert len(TABLES) > 40
    found = [(f"{table.page}:{table.line}", docs_numbers.state(table, ROOT)) for table in TABLES]
    assert [(table, remark) for table, (state, remark) in found if state is State.MISSING] == []


def test_sources_name_paths_and_scripts_that_exist() -> None:
    named = [(table.page, path) for table in TABLES for path in table.code]
    named += [(table.page, path) for table in TABLES for path in re.findall(r"python (\S+\.py)", table.source or "")]
    assert [one for one in named if not (ROOT / one[1]).exists()] == []


def test_the_next_source_of_a_section_is_of_all_tables_before_it() -> None:
    first, second, third = docs_numbers.tables(PAGE, "page.md")
    assert (first.line, second.line, third.line) == (8, 13, 28)
    assert first.source == second.source and third.source is None
    assert first.commit == "0123abc" and first.code == ["models", "solvers/base.py"]


def commit(folder: Path, file: str, text: str) -> str:
    (folder / file).write_text(text)
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.invalid"]
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", file], check=True)
    return subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A repository in which a.py changed after the commit, and b.py did not."""
    folder = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    commit(folder, "b.py", "1")
    measured = commit(folder, "a.py", "1")
    commit(folder, "a.py", "2")
    return folder, measured


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("`run`, commit COMMIT, code `b.py`.", State.CURRENT),
        ("`run`, commit COMMIT, code `a.py`.", State.OLDER),
        ("`run`, commit COMMIT, code `b.py` `a.py`; a machine.", State.OLDER),
        ("`run`, commit fffffff, code `a.py`.", State.UNKNOWN),
        ("`run`, commit COMMIT.", State.MISSING),
        ("`run`, code `a.py`.", State.MISSING),
        ("not recorded.", State.UNRECORDED),
        ("held by tests/test_a.py.", State.UNMEASURED),
        ("computed from the shapes.", State.UNMEASURED),
        (None, State.MISSING),
    ],
)
def test_a_source_is_older_if_its_code_changed_since(
    repository: tuple[Path, str], source: str | None, expected: State
) -> None:
    folder, measured = repository
    text = None if source is None else source.replace("COMMIT", measured)
    state, remark = docs_numbers.state(Table("page.md", 1, text), folder)
    assert state is expected
    assert ("1 later commit" in remark) == (expected is State.OLDER)
