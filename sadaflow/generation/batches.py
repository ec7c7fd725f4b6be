"""Samples prompts by the thousand in batches, each of which is on disk before the next begins."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Protocol

import torch

from ..families.request import PER_LINE, PER_SAMPLE, Request
from ..files.metadata import Recipe
from ..pipeline.memory_need import NotEnoughMemory
from .batch_record import Line
from .outputs import Generator, Made
from .prompt_file import OF_PICTURES, Prompt
from .run_folder import Folder
from .workers import Shard

Say = Callable[[str], object]
Advance = Callable[[int], object]


class Maker(Protocol):
    """Samples prompts together.

    Attributes:
        ending: Ending of the files' names.
    """

    @property
    def ending(self) -> str: ...

    def recipe(self, prompt: Prompt) -> Recipe:
        """What is known of a file before it is made."""
        ...

    def __call__(self, prompts: Sequence[Prompt]) -> list[Made]: ...


@dataclass(frozen=True)
class PipelineMaker:
    """Samples prompts by a checkpoint."""

    generator: Generator

    @property
    def ending(self) -> str:
        return self.generator.ending

    def recipe(self, prompt: Prompt) -> Recipe:
        return self.generator.recipe(self._request([prompt]).sample(0))

    def __call__(self, prompts: Sequence[Prompt]) -> list[Made]:
        made: list[Made] = []
        for _, alike in groupby(prompts, key=lambda prompt: (prompt.strength, prompt.guidance)):
            members = list(alike)
            request = self._request(members)
            output = self.generator.sample(request, progress=False)
            made += [self.generator.file(output, request, index) for index in range(len(members))]
        return made

    def _request(self, prompts: Sequence[Prompt]) -> Request:
        """The request of these prompts, of one strength and guidance; their own arguments replace the shared ones."""
        shared = self.generator.request
        own: dict[str, Any] = {
            name: [getattr(shared, name) if (value := getattr(prompt, name)) is None else value for prompt in prompts]
            for name in PER_SAMPLE
        }
        own = {name: None if name in OF_PICTURES and None in values else values for name, values in own.items()}
        first = {name: getattr(prompts[0], name) for name in PER_LINE}
        own |= {name: value for name, value in first.items() if value is not None}
        return replace(shared, **own)


def sample_many(
    folder: Folder,
    prompts: Sequence[Prompt],
    batch: int,
    maker: Maker,
    shard: Shard,
    advance: Advance = lambda prompts: None,
    say: Say = lambda problem: None,
) -> None:
    """Sample the batches of this process's share that the folder does not hold yet.

    Prompts are sampled in fixed batches, because floating-point rounding depends on which samples share a batch. A
    prompt that cannot be sampled is recorded with its error in its line, and does not stop the others.

    Args:
        folder: The run's folder.
        prompts: All prompts of the run.
        batch: Number of prompts that are sampled together.
        maker: Samples them.
        shard: This process among those that share the folder.
        advance: Called with the number of prompts after each batch.
        say: Called with a line of text for each failure.
    """
    for number in shard.share(folder.batches):
        members = prompts[number * batch : (number + 1) * batch]
        if not folder.has(number):
            files: dict[str, bytes] = {}
            lines: list[Line] = []
            for prompt, made, together in _attempt(maker, members, say):
                if isinstance(made, Made):
                    files[prompt.name + maker.ending] = made.content
                lines.append(_line(prompt, made, together, maker))
            folder.keep(number, files, lines)
        advance(len(members))


def share_size(prompts: int, batch: int, shard: Shard) -> int:
    """Number of prompts in this process's share."""
    return sum(min(batch, prompts - number * batch) for number in shard.share(-(-prompts // batch)))


Attempt = tuple[Prompt, Made | str, int]
"""A prompt, its file or the error, and the number of prompts that were sampled together."""


def _attempt(maker: Maker, prompts: Sequence[Prompt], say: Say) -> list[Attempt]:
    """Sample the prompts together; if that fails, each half by itself."""
    try:
        return [(prompt, made, len(prompts)) for prompt, made in zip(prompts, maker(prompts), strict=True)]
    except (FloatingPointError, RuntimeError, MemoryError) as error:
        if not isinstance(error, FloatingPointError) and not out_of_memory(error):
            raise
        if isinstance(error, NotEnoughMemory) and len(prompts) == 1:  # every prompt would fail likewise
            raise
        problem = "not enough memory" if out_of_memory(error) else f"{type(error).__name__}: {error}"
    # Tensors are freed only here, after the error and the frames that it refers to are gone.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    first, last = prompts[0].index, prompts[-1].index
    if len(prompts) == 1:
        say(f"prompt {first} failed, {problem}: {prompts[0].prompt!r}")
        return [(prompts[0], problem, 1)]
    say(f"prompts {first} to {last}: {problem}; trying each half by itself")
    half = len(prompts) // 2
    return _attempt(maker, prompts[:half], say) + _attempt(maker, prompts[half:], say)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch has a class for that on a GPU only."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def _line(prompt: Prompt, made: Made | str, together: int, maker: Maker) -> Line:
    known = {"index": prompt.index, "name": prompt.name}
    if isinstance(made, str):
        failed = {"file": None, "sha256": None, "error": made, "together": together}
        return known | failed | maker.recipe(prompt).known("solver_config")
    digest = hashlib.sha256(made.content).hexdigest()
    done = {"file": prompt.name + maker.ending, "sha256": digest, "error": None, "together": together}
    return known | done | made.recipe.known("solver_config")  # which the file itself holds


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Limits torch to `count` threads of the processor within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
