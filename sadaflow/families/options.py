"""The arguments of a call, grouped by the checkpoints that use them.

To add an argument, add a field here and the parameter to `Pipeline.__call__`. The command line, prompt files, the
metadata of PNG and WAV files and `compare` read the fields of `Request`, which joins these groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor

from sadaflow.solvers import Grid, Solver
from sadaflow.solvers.levels import LEVEL_RULES
from sadaflow.solvers.names.settings import nearest
from sadaflow.solvers.registry import known_solver
from sadaflow.solvers.spacing import RAMPS, SPACINGS

from ..accelerators import Accelerator, make_accelerator
from ..accelerators.default import DEFAULT
from .argument import (
    any_number,
    anything,
    argument,
    cannot_be_used,
    count,
    number,
    number_from,
    optional,
    pair,
    text_or_texts,
    texts,
    whole_numbers,
)
from .guidance_options import Guidance, read_guidance
from .values import listed, whole_number

Pair = Sequence[int]
"""Two whole numbers of pixels."""

Negative = str | None | Sequence[str | None]
"""A negative prompt for all samples, or one for each; None stands for no negative prompt."""

GRIDS: Final = (*SPACINGS, *RAMPS, *LEVEL_RULES)
STEPS: Final = 50
"""Steps of a request without any, if the checkpoint recommends none."""

PLAIN: Final = "none"
"""Name that asks for no accelerator, where leaving it out asks for the default."""

_SEEDS: Final = (-(2**63), 2**64 - 1)  # what torch's generators take


def _read_solver(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return known_solver(value)
    if isinstance(value, type) or not hasattr(value, "nodes"):
        raise ValueError(cannot_be_used(name, value, 'a name ("euler") or a solver (pipe.solver("euler", 20))'))
    return value


def _read_grid(name: str, value: Any) -> Any:
    if isinstance(value, str) and value not in GRIDS:
        raise ValueError(f"unknown {name} {value!r}{nearest(value, GRIDS)}; known: {', '.join(GRIDS)}")
    if not isinstance(value, (str, Grid)):
        raise ValueError(cannot_be_used(name, value, 'a name ("karras") or a Grid'))
    return value


def _read_accelerator(name: str, value: Any) -> Any:
    if isinstance(value, str):
        if value != PLAIN:
            make_accelerator(value)
    elif isinstance(value, type) or not callable(getattr(value, "begin", None)):
        raise ValueError(cannot_be_used(name, value, 'a name ("sada") or settings (SADA())'))
    return value


def _read_prompts(name: str, value: Any) -> tuple[str, ...]:
    return () if value is None else texts(name, value)


@dataclass(frozen=True)
class SamplingOptions:
    """Arguments that every checkpoint has.

    Attributes:
        prompt: A prompt, or a sequence of one for each sample; held as a tuple. Empty until it is known.
        negative_prompt: A negative prompt for all samples, or a sequence with one (or None) for each.
        steps: Steps of the solver; None is what the checkpoint recommends, or 50.
        solver: Name of a solver, with settings if wanted ("dpmpp2m-sde eta=0.5"), `module:Class`, or a solver; None is
            the one that the scheduler config names.
        grid: Name of a time grid, or a grid; None is the scheduler config's.
        accelerator: Name of an accelerator, with settings if wanted ("auto budget=25"), `module:Class`, or an
            accelerator; None and "none" evaluate the network at every step.
        speedup: Network evaluations without an accelerator divided by those to be made, in the mean over samples; the
            accelerator is then "auto", which is `Auto(speedup=...)`.
        guidance: Scale of classifier-free guidance, up to 1 of which the negative branch is left out; a sequence with
            one for each sample; a function of the `Moment`; or a rule of `sadaflow.guidance` or its text ("apg eta=0").
            On Flux.1 dev the number that the network embeds. None is what the checkpoint recommends, or what its class
            was published with.
        seed: Seed of the start noise for all samples, or a sequence with one for each.
        height: Height in pixels (of a sound: in spectrogram frames); None is the checkpoint's own.
        width: Width in pixels (of a sound: in mel bands); None is the checkpoint's own.
        noise: Start noise (B, C, h, w), of videos (B, C, T, h, w), unit normal, in place of the seeds'.
    """

    prompt: str | Sequence[str] = argument(
        (), _read_prompts, "One image, sound or row per prompt.", flag_type=list[str], metavar="PROMPT", per_sample=True
    )
    negative_prompt: Negative = argument(
        None, text_or_texts, "Negative prompt: one for all, or one for each.",
        flag_type=list[str], flag="negative", metavar="TEXT", per_sample=True,
    )  # fmt: skip
    steps: int | None = argument(
        None, optional(count(1)), "Steps of the solver.", flag_type=int, shown_default="the checkpoint's, or 50"
    )
    solver: str | Solver | None = argument(
        None, optional(_read_solver), 'Solver, as in "dpmpp2m-sde eta=0.5": sadaflow list solvers.', flag_type=str,
        shown_default="the checkpoint's, or dpmpp2m",
    )  # fmt: skip
    grid: str | Grid | None = argument(
        None, optional(_read_grid), "Time grid, as in karras.", flag_type=str, shown_default="the checkpoint's"
    )
    accelerator: str | Accelerator | None = argument(
        None, optional(_read_accelerator), 'As in "auto budget=25", or none: sadaflow list accelerators.',
        flag_type=str, flag="accelerate", shown_default=f"{DEFAULT}, or none if the steps are too few",
    )  # fmt: skip
    speedup: float | None = argument(
        None, optional(number_from(1)), "Evaluate so many times less often, with auto: 2 halves the cost.",
        flag_type=float, shown_default="auto's tolerance",
    )  # fmt: skip
    guidance: Guidance | None = argument(
        None, optional(read_guidance), 'Scale, or a rule as in "apg scale=7": sadaflow list guidance.',
        flag_type=float | str, metavar="X", shown_default="the checkpoint's", per_line=True,
    )  # fmt: skip
    seed: Any = argument(
        0, whole_numbers(*_SEEDS), "Seed of the start noise, the same for every prompt.", flag_type=int, metavar="N",
        shown_default="0", per_sample=True,
    )  # fmt: skip
    height: int | None = argument(
        None, optional(count()), "Height in pixels.", flag_type=int, shown_default="the checkpoint's"
    )
    width: int | None = argument(
        None, optional(count()), "Width in pixels.", flag_type=int, shown_default="the checkpoint's"
    )
    noise: Tensor | None = argument(None, anything, "Start noise in place of the seed's.")


@dataclass(frozen=True)
class SoundOptions:
    """Arguments of checkpoints that make sound.

    Attributes:
        seconds: Length of the sound; None is the checkpoint's own.
        audio: A sound to start from, for all samples: path of a WAV file, or (samples, rate), of which samples are
            (samples,) or (channels, samples). It decides the length.
    """

    seconds: float | None = argument(
        None, optional(any_number), "Length of a sound in seconds.", flag_type=float, shown_default="the checkpoint's"
    )
    audio: Any = argument(None, anything, "Sound to start from, a WAV file.", flag_type=str, metavar="FILE")


Label = int | str
"""The number or the name of a class."""


def _read_labels(name: str, value: Any) -> Label | None | tuple[Label, ...]:
    several = listed(value)
    if several is not None:
        return tuple(_read_label(f"{name}[{index}]", entry) for index, entry in enumerate(several))
    return None if value is None else _read_label(name, value)


def _read_label(name: str, value: Any) -> Label:
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else value
    return whole_number(name, value, 0)


@dataclass(frozen=True)
class LabelOptions:
    """Arguments of checkpoints that are sampled by class, without a prompt.

    Attributes:
        class_labels: Number or name of a class, or a sequence with one for each sample. Names are those that the
            checkpoint publishes.
    """

    class_labels: Label | Sequence[Label] | None = argument(
        None, _read_labels, "On DiT: number or name of a class. Repeatable.",
        flag_type=list[str], flag="class_label", metavar="LABEL",
    )  # fmt: skip


@dataclass(frozen=True)
class FluxOptions:
    """Arguments of checkpoints with a transformer.

    Attributes:
        true_guidance: On Flux.1, guidance by the negative prompt, at twice the cost, as `guidance` elsewhere; up to 1
            there is none.
        max_sequence_length: Length in tokens of the prompt of T5 or of the language model; None is 512, or 256 for
            Stable Diffusion 3, and for T5 its tokenizer's own number if that is less.
    """

    true_guidance: Guidance = argument(
        1.0, read_guidance, "On Flux.1: guidance by the negative prompt, at twice the cost.", flag_type=float | str,
        metavar="X",
    )  # fmt: skip
    max_sequence_length: int | None = argument(
        None, optional(count()), "Tokens of the prompt of T5, or of the language model.", flag_type=int,
        shown_default="512; 256 for Stable Diffusion 3",
    )  # fmt: skip


def _sizes(help: str, shown_default: str = "as for the other branch") -> Any:
    return argument(
        None, optional(pair("(height, width)")), f"On SDXL: {help}", flag_type=tuple[int, int],
        metavar="HEIGHT WIDTH", shown_default=shown_default,
    )  # fmt: skip


def _corner(help: str, shown_default: str = "as for the other branch") -> Any:
    return argument(
        None, optional(pair("(top, left)")), f"On SDXL: {help}", flag_type=tuple[int, int],
        metavar="TOP LEFT", shown_default=shown_default,
    )  # fmt: skip


@dataclass(frozen=True)
class XLOptions:
    """Arguments of Stable Diffusion XL checkpoints: the history of a picture that the network is conditioned on.

    See section 2.2 of Podell et al. 2023, arXiv 2307.01952. Sizes are (height, width) and corners (top, left), in
    pixels. Those of the negative branch are None where it is conditioned on the same.

    Attributes:
        original_size: Size before the picture was scaled; None is the size made.
        crop: Corner at which it was cropped; None is (0, 0).
        target_size: Size that it was scaled to; None is the size made. Not for the refiner.
        negative_original_size: The same for the negative branch.
        negative_crop: The same for the negative branch.
        negative_target_size: The same for the negative branch.
        aesthetic_score: Score of the picture, for the refiner alone; None is 6.
        negative_aesthetic_score: The same for the negative branch; None is 2.5.
    """

    original_size: Pair | None = _sizes("size of the picture before it was scaled.", "the size made")
    crop: Pair | None = _corner("corner at which the picture was cropped.", "0 0")
    target_size: Pair | None = _sizes("size that the picture was scaled to.", "the size made")
    negative_original_size: Pair | None = _sizes("original size, for the negative branch.")
    negative_crop: Pair | None = _corner("corner, for the negative branch.")
    negative_target_size: Pair | None = _sizes("target size, for the negative branch.")
    aesthetic_score: float | None = argument(
        None, optional(number), "On SDXL's refiner: aesthetic score of the picture.", flag_type=float, shown_default="6"
    )
    negative_aesthetic_score: float | None = argument(
        None, optional(number), "On SDXL's refiner: aesthetic score, for the negative branch.", flag_type=float,
        shown_default="2.5",
    )  # fmt: skip
