"""All arguments of a call, in one dataclass that the Python API, the command line and files share."""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Self

from torch import Tensor

from ..accelerators.default import AUTO
from .argument import arguments, spread
from .control_options import ControlOptions
from .guidance_options import Guidance, GuidanceOptions, is_guided, of_sample
from .options import FluxOptions, LabelOptions, SamplingOptions, SoundOptions, XLOptions
from .picture_options import PictureOptions, check_pictures, picture_of
from .text_options import EMBEDS, NEGATIVE_EMBEDS, TextOptions, check_text, sliced
from .video_options import VideoOptions

FAMILY_OPTIONS: Final = (FluxOptions, LabelOptions, TextOptions, VideoOptions, XLOptions)
"""Arguments that checkpoints of some classes honour and others refuse."""


@dataclass(frozen=True)
class Request(
    XLOptions,
    FluxOptions,
    TextOptions,
    LabelOptions,
    ControlOptions,
    VideoOptions,
    SoundOptions,
    PictureOptions,
    GuidanceOptions,
    SamplingOptions,
):
    """All arguments of a call that decide what is sampled; None and defaults leave the choice to the checkpoint.

    The fields are those of the base classes, which document them. Numbers of any integer or floating-point type are
    accepted, and held as Python's.

    Raises:
        ValueError: If an argument is not of its type or range, or if two do not fit each other. Both are named.
    """

    def __post_init__(self) -> None:
        for name, declared in ARGUMENTS.items():
            object.__setattr__(self, name, declared.read(name, getattr(self, name)))
        if self.grid is not None and self.solver is not None and not isinstance(self.solver, str):
            raise ValueError(
                f"grid={self.grid!r} with a solver, which has its own grid: give the solver's name, or no grid"
            )
        check_pictures(self)
        check_text(self)
        if self.words is not None:
            object.__setattr__(self, "words", self.words.chosen(self.prompts))
            object.__setattr__(self, "prompt", self.words.prompts)
        elif self.prompt_embeds is not None:
            object.__setattr__(self, "prompt", ("",) * len(self.prompt_embeds))
        if self.speedup is not None and self.accelerator not in (None, AUTO):
            raise ValueError(
                f"speedup={self.speedup:g} is an argument of the accelerator {AUTO!r}, not of {self.accelerator!r}"
            )
        samples = len(self.prompt)
        if samples and len(self.negatives) != samples:
            raise ValueError(
                f"{len(self.negatives)} negative prompts for {samples} prompts: give one for all, or one for each"
            )
        if samples and len(spread(self.blend_prompt, samples)) != samples:
            raise ValueError(
                f"{len(self.blend_prompt or ())} blend_prompt for {samples} prompts: give one for all, or one for each"
            )
        if samples and len(self.seeds) != samples:
            raise ValueError(f"{len(self.seeds)} seeds for {samples} prompts: give one seed, or one per prompt")
        if samples and len(self.sources) != samples:
            raise ValueError(f"{len(self.sources)} source prompts for {samples} prompts: give one for all, or one each")
        if samples and len(self.labels) != samples:
            raise ValueError(f"{len(self.labels)} class_labels for {samples} samples: give one for all, or one each")
        for name in ("guidance", "true_guidance"):
            scales = getattr(self, name)
            if samples and isinstance(scales, tuple) and len(scales) != samples:
                raise ValueError(f"{name} has {len(scales)} numbers for {samples} samples: give one, or one each")

    @property
    def samples(self) -> int:
        """Number of samples: of prompts, or without any of class labels, of seeds, or of rows of the noise."""
        counts = (self.prompt, self.class_labels, self.seed, self.noise)
        several = [len(given) for given in counts if isinstance(given, (tuple, Tensor)) and len(given)]
        return several[0] if several else 1

    @property
    def labels(self) -> list[Any]:
        """The class label of each sample, None where it has none."""
        return spread(self.class_labels, self.samples)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompt of each sample."""
        return tuple(self.prompt)

    @property
    def negatives(self) -> list[str | None]:
        """The negative prompt of each sample, None where it has none."""
        return spread(self.negative_prompt, len(self.prompt))

    @property
    def sources(self) -> list[str | None]:
        """The source prompt of each sample, None where it has none."""
        return spread(self.source_prompt, len(self.prompt))

    @property
    def blend_prompts(self) -> list[str]:
        """The prompt that the prompt of each sample becomes; its own for a sample without another."""
        others = spread(self.blend_prompt, len(self.prompt))
        return [prompt if other is None else other for prompt, other in zip(self.prompt, others, strict=True)]

    @property
    def seeds(self) -> list[int]:
        """The seed of each sample."""
        return spread(self.seed, len(self.prompt))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels. Raises ValueError while they are None."""
        if self.height is None or self.width is None:
            raise ValueError(f"height={self.height} and width={self.width}: fill them in before encoding the request")
        return self.height, self.width

    @property
    def known_guidance(self) -> Guidance:
        """The guidance. Raises ValueError while it is None."""
        if self.guidance is None:
            raise ValueError("guidance=None: fill it in before encoding the request")
        return self.guidance

    @property
    def guidance_scale(self) -> float:
        """The guidance, if it is a number. Raises ValueError while it is None, and for rules."""
        if not isinstance(self.known_guidance, float | int):
            raise ValueError(f"guidance={self.known_guidance!r}: this checkpoint takes a number alone")
        return self.known_guidance

    @property
    def embedded_guidance(self) -> list[float]:
        """The number of each sample that a network embeds. Raises ValueError if the guidance is a rule."""
        guidance = self.known_guidance
        if not isinstance(guidance, tuple | float | int):
            raise ValueError(f"guidance={guidance!r}: the network of this checkpoint embeds guidance, give a number")
        return spread(guidance, len(self.prompts))

    @property
    def guided(self) -> bool:
        """Whether guidance needs the negative branch."""
        return is_guided(self.known_guidance)

    def text_tokens(self, longest: int, default: int | None = None) -> int:
        """Length of the prompt in tokens.

        Args:
            longest: Largest number of tokens of a prompt in training.
            default: Length if the request gives none; None is `longest`.

        Raises:
            ValueError: If the request gives more than `longest`, or less than one.
        """
        length = self.max_sequence_length
        if length is None:
            return default or longest
        if not 1 <= length <= longest:
            raise ValueError(f"max_sequence_length={length} is not a whole number from 1 to {longest}")
        return length

    def sample(self, index: int) -> Self:
        """The request of the sample `index` alone."""
        prompt, negative, seed = self.prompt[index], self.negatives[index], self.seeds[index]
        several = self.samples == 1 and isinstance(self.image, (list, tuple))  # all of them belong to this sample
        image, mask = self.image if several else picture_of(self.image, index), picture_of(self.mask, index)
        encoded: dict[str, Any] = {name: sliced(getattr(self, name), index) for name in (*EMBEDS, *NEGATIVE_EMBEDS)}
        return replace(
            self,
            prompt=prompt,
            negative_prompt=negative,
            seed=seed,
            source_prompt=self.sources[index],
            class_labels=self.labels[index],
            guidance=of_sample(self.guidance, index),
            true_guidance=of_sample(self.true_guidance, index),
            image=image,
            mask=mask,
            blend_prompt=spread(self.blend_prompt, len(self.prompt))[index],
            words=None if self.words is None else self.words.rows([index]),
            **encoded,
        )

    def of_text(self, prompt: str) -> Self:
        """The request with another prompt for all samples, as text."""
        encoded: dict[str, Any] = dict.fromkeys((*EMBEDS, *NEGATIVE_EMBEDS, "words", "blend_prompt"))
        return replace(self, prompt=(prompt,) * self.samples, **encoded)

    def without_prompts(self) -> Self:
        """The request with an empty prompt for each sample, for checkpoints that read none.

        Raises:
            ValueError: If it has a prompt or a negative prompt.
        """
        for name, given in (("prompt", self.prompts), ("negative_prompt", spread(self.negative_prompt, 1))):
            if any(given):
                raise ValueError(
                    f"{name}={next(filter(None, given))[:80]!r}: this checkpoint reads no prompt; it is sampled from "
                    "noise, by class if it has class labels (class_labels=)"
                )
        return replace(self, prompt=("",) * self.samples)

    def filled(self, **defaults: Any) -> Self:
        """The request with `defaults`, by name, for arguments that are None."""
        return replace(self, **{name: value for name, value in defaults.items() if getattr(self, name) is None})

    def arguments(self) -> dict[str, Any]:
        """All arguments by name, as `Pipeline.__call__` takes them."""
        return {name: getattr(self, name) for name in ARGUMENTS}

    def given(self) -> dict[str, Any]:
        """The arguments that are not at their defaults, by name."""
        found = {item.name: (getattr(self, item.name), item.default) for item in fields(self)}
        return {name: value for name, (value, default) in found.items() if not _same(value, default)}

    def refuse_idle(self, honoured: frozenset[str], kind: str) -> None:
        """Check that no argument is given that the checkpoint would ignore.

        Args:
            honoured: Names of the arguments of `FAMILY_OPTIONS` that the checkpoint honours.
            kind: The checkpoint's class, for the error.

        Raises:
            ValueError: If there is such an argument.
        """
        special = {name for options in FAMILY_OPTIONS for name in arguments(options)}
        for name, value in self.given().items():
            if name in special - honoured:
                raise ValueError(f"{name}={reprlib.repr(value)} has no effect on a {kind} checkpoint; leave it out")


ARGUMENTS: Final = arguments(Request)
"""All arguments by name, in the order of the fields."""

PER_SAMPLE: Final = tuple(name for name, declared in ARGUMENTS.items() if declared.per_sample)
"""Names of the arguments of which each sample may have its own."""

PER_LINE: Final = tuple(name for name, declared in ARGUMENTS.items() if declared.per_line)
"""Names of the arguments of which each line of a prompt file may have its own, and which samples of a call share."""


def select_arguments(values: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `values` that are arguments of a request, by name."""
    return {name: values[name] for name in ARGUMENTS if name in values}


def _same(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and bool(value == default))
