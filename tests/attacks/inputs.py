"""Attacks by files that users name: prompts, pictures; and by arguments and text that reaches the terminal."""

import contextlib
import io
import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sadaflow.cli import main
from sadaflow.files.images import from_pil, read_image
from sadaflow.generation.prompt_file import read_prompt_file
from support.checkpoints import stable_diffusion

from .checkpoints import broken_bytes
from .outcome import WITHSTOOD, Attack, Attempt, Outcome, judged

VALUES = (
    "fox",
    "",
    " ",
    "\x1b[2J",
    "a\nb",
    "a\r\nb",
    "x" * 5000,
    "\ud800",
    "\0",
    '"',
    "'",
    ",",
    "\ufeff",
    "\u2028",
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    [],
    {},
    ["a"],
    "../../x",
    "/etc/passwd",
    ".",
    "CON",
    "a" * 101,
)


def _prompt_file(draw: random.Random) -> tuple[str, bytes]:
    """Name and content of a prompt file in which something is wrong, or nothing is."""
    entries = [
        {"prompt": draw.choice(VALUES), "seed": draw.choice((1, *VALUES)), "id": draw.choice((3, *VALUES))}
        for _ in range(draw.randrange(1, 4))
    ]
    entries = [{name: entry[name] for name in entry if draw.random() < 0.6} for entry in entries]
    form = draw.choice(("jsonl", "csv", "json", "txt"))
    if form == "jsonl":
        text = "".join(json.dumps(entry) + draw.choice(("\n", "\r\n", "\n\n")) for entry in entries)
    elif form == "csv":
        header = draw.choice(("prompt", "prompt,seed", "seed,prompt,id", "prompt,\x1b[31m", "prompt,prompt", "seed"))
        text = "\n".join([header, *(",".join(str(value) for value in entry.values()) for entry in entries)])
    elif form == "json":
        captions = [
            {"image_id": draw.choice((1, *VALUES)), "id": draw.choice((2, *VALUES)), "caption": draw.choice(VALUES)}
            for _ in range(2)
        ]
        text = json.dumps(draw.choice(({"annotations": captions}, captions, {"annotations": 3}, {})))
    else:
        text = "\n".join(str(draw.choice(VALUES)) for _ in range(3))
    content = text.encode("utf-8", "surrogatepass")
    if draw.random() < 0.3:
        content = draw.choice(
            (
                b"[" * 99999,
                b"\xff\xfe" + content,
                content[: len(content) // 2],
                content * 2,
                b"",
                broken_bytes(content, draw),
            )
        )
    return f"p.{form}", content


def _prompts(shared: Path) -> Attempt:
    def attempt(seed: int, place: Path) -> Outcome:
        name, content = _prompt_file(random.Random(seed))
        path = place / name
        path.write_bytes(content)
        found: list[Any] = []
        failed = judged(lambda: found.extend(read_prompt_file(path)), str(path))
        if failed is not None:
            return failed
        if name == "p.jsonl":  # read in another way
            lines = [json.loads(line) for line in content.decode("utf-8-sig").split("\n") if line.strip()]
            expected = [
                (line["prompt"], line["seed"] if line.get("seed") is not None else index)
                for index, line in enumerate(lines)
            ]
            if [(prompt.prompt, prompt.seed) for prompt in found] != expected:
                return Outcome("wrong result", f"{found}")
        safe = all(Path(prompt.name).name == prompt.name and not prompt.name.startswith(".") for prompt in found)
        return WITHSTOOD if safe else Outcome("touched outside", f"{found}")

    return attempt


def _pictures(shared: Path) -> Attempt:
    draw = np.random.default_rng(0)
    plain = {}
    for name, mode in (("a.png", "RGB"), ("b.png", "I;16"), ("c.jpg", "RGB"), ("d.png", "P"), ("e.tif", "F")):
        values = draw.integers(0, 255, (12, 10, 3) if mode in ("RGB", "P") else (12, 10))
        image = Image.fromarray(values.astype({"I;16": "uint16", "F": "float32"}.get(mode, "uint8")))
        (image.convert("P") if mode == "P" else image).save(shared / name)
        plain[name] = (shared / name).read_bytes()

    def attempt(seed: int, place: Path) -> Outcome:
        chosen = random.Random(seed)
        name = chosen.choice(sorted(plain))
        (place / name).write_bytes(broken_bytes(plain[name], chosen))

        def action() -> None:
            read_image(place / name)

        failed = judged(action, name)
        if failed is None:
            failed = judged(lambda: from_pil(read_image(place / name), (16, 16)))
        return failed or WITHSTOOD

    return attempt


FLAGS = {
    "--steps": ("0", "-1", "1", "1e9", "x", "٣", "9" * 30),
    "--seed": ("-1", "2", "99999999999999999999999", "1.5"),
    "--height": ("0", "7", "16", "1000000000"),
    "--guidance": ("nan", "inf", "-1", "1e308", "x", "1"),
    "--solver": ("euler", "", "nosuch", "\x1b[31m", "a:b", "os:system"),
    "--grid": ("karras", "x", "\n"),
    "--accelerate": ("none", "sada", "sada tokens=x", "a:b", "\x07", "uniform every=0"),
    "--device": ("cpu", "gpu", "cuda:99"),
    "--dtype": ("float32", "int8", "\x1b]0;x\x07"),
    "--out": ("a.png", "a.txt", ".", "/dev/null", "a/b/c.png", "\x1b.png"),
    "--negative": ("", "\ud800", "x"),
    "--lora": ("none.safetensors", "owner/name/x", "/etc/passwd", "a.ckpt"),
    "--scheduler": ("none.json", "/dev/zero", "."),
    "--control": ("/dev/zero", "none.png"),
    "--tile": ("0", "16", "x"),
    "--prompts": ("none.txt", "/dev/zero", "p.txt"),
    "--batch": ("0", "2"),
    "--model": ("none", "a/b/c", "", "\x1b[2J", "/"),
    "--variant": ("fp16", "../x"),
    "--revision": ("../x", "main"),
    "--offload": ("model", "x"),
    "--speedup": ("0", "2", "nan"),
}


def _shown_raw(text: str) -> bool:
    """Whether text for the terminal holds a control character beside newlines, and what bars use on a terminal."""
    return any(unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\r" for letter in text)


def _arguments(shared: Path) -> Attempt:
    folder = stable_diffusion(shared / "sd", "sd15")

    def attempt(seed: int, place: Path) -> Outcome:
        draw = random.Random(seed)
        with contextlib.chdir(place):
            Path("p.txt").write_text("fox\n")
            flags = draw.sample(sorted(FLAGS), draw.choice((1, 1, 2, 3)))
            arguments = [part for flag in flags for part in (flag, draw.choice(FLAGS[flag]))]
            base = ["--steps", "1", "--height", "16", "--width", "16", "--model", str(folder), "--out", "x.png"]
            prompt = [] if "--prompts" in flags else ["fox"]
            return _command(["generate", *prompt, *base, *arguments])

    return attempt


def _command(arguments: list[str]) -> Outcome:
    """Runs the command: it ends with a known code, and a line of error unless that is 0."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except BaseException as error:
            return Outcome("traceback", f"{type(error).__name__}: {str(error)[:300]} of {arguments}")
    if "Traceback" in err.getvalue() or code not in (0, 1, 2, 130):
        return Outcome("traceback", err.getvalue()[-1500:])
    lines = [line for line in err.getvalue().replace("\r", "\n").split("\n") if line.strip()]
    if code and (not lines or not lines[-1].startswith("error: ") or lines[-1].startswith("error: unexpected")):
        return Outcome("traceback", f"code {code} of {arguments}: {err.getvalue()[-500:]}")
    if _shown_raw(out.getvalue() + err.getvalue()):
        return Outcome("touched outside", f"control characters on the terminal: {err.getvalue()[-300:]!r}")
    return WITHSTOOD


def _escapes(shared: Path) -> Attempt:
    plain = stable_diffusion(shared / "sd", "sd15")
    names = ("\x1b[2J", "\x07", "a\nb", "\x9b31m", "\u202e", "\r")

    def attempt(seed: int, place: Path) -> Outcome:
        draw = random.Random(seed)
        folder = place / f"a{draw.choice(names)}b"
        folder.symlink_to(plain) if seed % 2 else folder.mkdir()
        if not seed % 2:
            for path in plain.rglob("*"):
                target = folder / path.relative_to(plain)
                if path.is_dir():
                    target.mkdir()
                elif path.suffix == ".json" and "tokenizer" not in str(path):
                    content = json.loads(path.read_text())
                    field = draw.choice(sorted(content))
                    content[draw.choice((field, field + draw.choice(names)))] = draw.choice(names)
                    target.write_text(json.dumps(content))
                else:
                    target.symlink_to(path)
        return _command(["inspect", str(folder)])

    return attempt


ATTACKS = (
    Attack(
        "prompt files", "text, JSON Lines, CSV and captions with values, types or bytes that are wrong", _prompts, 250
    ),
    Attack("pictures", "PNG, JPEG and TIFF in which bytes are wrong", _pictures, 150),
    Attack("arguments", "flags of the command with values that are wrong, absent or of another kind", _arguments, 12),
    Attack("control characters", "names and fields with escapes, shown by `inspect`", _escapes, 10),
)
