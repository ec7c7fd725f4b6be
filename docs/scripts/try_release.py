"""Installs a wheel into clean environments, one for each Python, and runs the command as a new user would.

    python docs/scripts/try_release.py dist/sadaflow-0.2.0-py3-none-any.whl [PYTHON ...]      # `make try-release`

Without interpreters it takes python3.11, python3.12 and python3.13 where they are on the path, and says which were not
found. Packages come from the index that pip is set to; `--torch-index URL` is a further one for torch, such as that of
its CPU builds.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PYTHONS = ("python3.11", "python3.12", "python3.13")
COMMANDS = (
    ("--version",),
    ("list", "accelerators"),
    ("generate", "red apple", "--steps", "10", "--out", "apple.png"),
    ("generate", "panda face", "--model", "tiny-flux", "--steps", "20", "--speedup", "2", "--out", "panda.png"),
)


def attempt(wheel: Path, python: str, torch_index: str | None, folder: Path) -> str:
    """Installs the wheel into a new environment and runs the commands.

    Args:
        wheel: The wheel.
        python: Interpreter.
        torch_index: URL of a further index for torch; None: the index of pip alone.
        folder: Folder for the environment and what the commands write.

    Returns:
        A line about versions and seconds.

    Raises:
        subprocess.CalledProcessError: If a step fails.
    """
    run([python, "-m", "venv", str(folder / "venv")], folder)
    binaries = folder / "venv" / "bin"
    pip = [str(binaries / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    started = time.monotonic()
    if torch_index is not None:
        run([*pip, "torch", "--index-url", torch_index], folder)
    run([*pip, f"{wheel}[cli]"], folder)
    installed = time.monotonic() - started
    seconds = []
    for command in COMMANDS:
        started = time.monotonic()
        run([str(binaries / "sadaflow"), *command], folder)
        seconds.append(f"{command[0]} {time.monotonic() - started:.1f} s")
    for picture in ("apple.png", "panda.png"):
        if not (folder / picture).stat().st_size:
            raise ValueError(f"{picture} is empty")
    versions = run(
        [str(binaries / "python"), "-c", "import sys, torch; print(sys.version.split()[0], torch.__version__)"], folder
    )
    return f"Python and torch {versions.strip()}: installed in {installed:.0f} s; {', '.join(seconds)}"


def run(command: list[str], folder: Path) -> str:
    """Runs a command in a folder; returns what it printed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
        done.check_returncode()
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path, help="the wheel to try")
    parser.add_argument(
        "python", nargs="*", help=f"interpreters (default: those of {', '.join(PYTHONS)} that are found)"
    )
    parser.add_argument("--torch-index", help="URL of a further package index for torch")
    arguments = parser.parse_args()
    wheel = arguments.wheel.resolve()
    if not wheel.is_file():
        parser.error(f"{wheel} does not exist; `make release` builds it")
    failed = 0
    for python in arguments.python or PYTHONS:
        if shutil.which(python) is None:
            print(f"{python}: not found, not tried")
            failed += python in arguments.python
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                print(attempt(wheel, python, arguments.torch_index, Path(folder)), flush=True)
            except subprocess.CalledProcessError as error:
                print(f"{python}: failed: {error}")
                failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
