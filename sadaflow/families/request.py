"""All arguments of a call, in one dataclass that the Python API, the command line and files share."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Self

from torch import Tensor

from ..accelerators.default import AUTO
from .argument import arguments, spread
from .options import ControlOptions, FluxOptions, LabelOptions, SamplingOptions, SoundOptions, XLOptions
from .picture_options import PictureOptions, check_pictures, picture_of

FAMILY_OPTIONS: Final = (FluxOptions, LabelOptions, XLOptions)
"""Arguments that checkpoints of some classes honour and others refuse."""


@dataclass(frozen=True)
class Request(XLOptions, FluxOptions, LabelOptions, ControlOptions, SoundOptions, PictureOptions, SamplingOptions):
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
        if self.speedup is not None and self.accelerator not in (None, AUTO):
            raise ValueError(
                f"speedup={self.speedup:g} is an argument of the accelerator {AUTO!r}, not of {self.accelerator!r}"
            )
        samples = len(self.prompt)
        if samples and len(self.negatives) != samples:
            raise ValueError(
                f"{len(self.negatives)} negative prompts for {samples} prompts: give one for all, or one for each"
            )
        if samples and len(self.seeds) != samples:
            raise ValueError(f"{len(self.seeds)} seeds for {samples} prompts: give one seed, or one per prompt")
        if samples and len(self.sources) != samples:
            raise ValueError(f"{len(self.sources)} source prompts for {samples} prompts: give one for all, or one each")
        if samples and len(self.labels) != samples:
            raise ValueError(f"{len(self.labels)} class_labels for {samples} samples: give one for all, or one each")

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
    def guidance_scale(self) -> float:
        """The guidance. Raises ValueError while it is None."""
        if self.guidance is None:
            raise ValueError("guidance=None: fill it in before encoding the request")
        return self.guidance

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance needs the negative branch."""
        return self.guidance_scale > 1

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
        image, mask = picture_of(self.image, index), picture_of(self.mask, index)
        return replace(
            self,
            prompt=prompt,
            negative_prompt=negative,
            seed=seed,
            source_prompt=self.sources[index],
            class_labels=self.labels[index],
            image=image,
            mask=mask,
        )

    def without_prompts(self) -> Self:
        """The request with an empty prompt for each sample, for checkpoints that read none.

        Raises:
            ValueError: If it has a prompt or a negative prompt.
        """
        for name, given in (("prompt", self.prompts), ("negative_prompt", spread(self.negative_prompt, 1))):
            if any(given):
                raise ValueError(
                    f"{name}={next(filter(None, given))[:80]!r}: this checkpoint reads no prompt; it is sampled from "
                    "noise, by class if it has class labels (class_labels=, --class-label)"
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
                raise ValueError(f"{name}={value!r} has no effect on a {kind} checkpoint; leave it out")


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
