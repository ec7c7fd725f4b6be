"""The outermost frame of the command line: a line for whatever is raised, no control characters on the terminal."""

import errno
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from sadaflow.cli import main
from sadaflow.files.printable import cell, one_line, printable
from support.checkpoints import stable_diffusion

SAMPLES: list[tuple[BaseException, int]] = [
    (ValueError("steps=0"), 2),
    (FileNotFoundError("nothing there"), 2),
    (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates"), 2),
    (OverflowError("int too large"), 2),
    (RecursionError("maximum recursion depth exceeded"), 2),
    (ModuleNotFoundError("No module named 'jinja2'"), 2),
    (FloatingPointError("x0 is not finite"), 1),
    (MemoryError(), 1),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"), 1),
    (OSError(errno.ENOSPC, "No space left on device"), 1),
    (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 1),
    (SafetensorError("HeaderTooLarge"), 1),
    (KeyError("x"), 1),
    (AssertionError(), 1),
    (RuntimeError("two\nlines \x1b[31m"), 1),
    (KeyboardInterrupt(), 130),
]


@pytest.mark.parametrize(("error", "code"), SAMPLES, ids=[type(error).__name__ for error, _ in SAMPLES])
@pytest.mark.parametrize("debug", [False, True])
def test_whatever_is_raised_is_one_line_and_an_exit_code(
    error: BaseException, code: int, debug: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **named: Any) -> Any:
        raise error

    monkeypatch.setattr("sadaflow.cli.load.load_pipeline", fail)
    assert main(["generate", "fox", "--out", "never.png", *(["--debug"] if debug else [])]) == code
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert printed.out == "" and lines[-1].startswith(("error: ", "interrupted")) and len(lines[-1]) > len("error: ")
    assert "\x1b" not in lines[-1]
    assert len(lines) == 1 or (debug and "Traceback" in printed.err)
    if lines[-1].startswith("error: unexpected"):
        assert "--debug" in lines[-1] and ("/issues" in lines[-1]) == debug


def test_names_with_escapes_are_shown_and_not_obeyed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = stable_diffusion(tmp_path / "a\x1b[2J\x07\u202egpj", "sd15")
    index = json.loads((folder / "model_index.json").read_text())
    index["unet"] = ["diffusers", "UNet2DConditionModel\n\x1b]0;title\x07"]
    (folder / "model_index.json").write_text(json.dumps(index))
    config = folder / "scheduler/scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "a\x1bc": 1, "clip_sample\n\x9b": None}))
    main(["inspect", str(folder)])
    main(["generate", "fox", "--model", str(folder), "--steps", "1", "--out", str(tmp_path / "x.png")])
    main(["generate", "--prompts", str(tmp_path / "\x1b.csv"), "--out", str(tmp_path / "out")])
    (tmp_path / "p.csv").write_text("prompt,\x1b[31mred\nfox,1\n")
    main(["generate", "--prompts", str(tmp_path / "p.csv"), "--out", str(tmp_path / "out")])
    printed = capsys.readouterr()
    shown = printed.out + printed.err
    assert "\\x1b" in shown and "\\u202e" in shown
    assert not [letter for letter in shown if letter not in "\n\r" and printable(letter) != letter]  # bars use \r


def test_warnings_are_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*arguments: Any, **named: Any) -> Any:
        warnings.warn("field 'a\n\x1b[1m' is ignored", stacklevel=1)
        raise ValueError("enough")

    before = warnings.showwarning
    monkeypatch.setattr("sadaflow.cli.load.load_pipeline", warn)
    assert main(["generate", "fox", "--out", "never.png"]) == 2
    assert capsys.readouterr().err == "warning: field 'a \\x1b[1m' is ignored\nerror: enough\n"
    assert warnings.showwarning is before


def test_text_is_escaped() -> None:
    assert printable("a\x00\x1b[0m\x7f\x9b\r\tb\n\u2028\u202e\ud800ü🦊") == (
        "a\\x00\\x1b[0m\\x7f\\x9b\\r\\tb\n\\u2028\\u202e\\ud800ü🦊"
    )
    assert one_line(" a\n\tb\x07 ") == "a b\\x07" and one_line("x" * 50, 10) == "xxxxxxx..."
    assert cell("a\n  b") == "a\\n  b"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_output_is_said_once() -> None:
    call = [sys.executable, "-c", "import sys; from sadaflow.cli import main; sys.exit(main(['inspect']))"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(call, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "No space left" in done.stderr
