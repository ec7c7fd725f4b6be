"""Sampling prompts by the thousand: batch after batch, each finished one on disk before the next begins."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Protocol

import torch

from ..families import AudioFamily
from ..families.request import Settings
from ..files.images import to_image
from ..files.metadata import Recipe
from ..files.png import encode_png
from ..files.wav import encode_wav
from ..pipeline.memory_need import NotEnoughMemory
from ..pipeline.pipeline import Pipeline
from .prompt_file import Prompt
from .run_folder import Folder, Line
from .workers import Shard

Say = Callable[[str], object]
Advance = Callable[[int], object]


@dataclass(frozen=True)
class Made:
    """The file of one prompt, and how it came to be."""

    content: bytes
    recipe: Recipe


class Maker(Protocol):
    """Samples prompts together. `ending` is that of the files; `recipe` is what is known of one before it is made."""

    @property
    def ending(self) -> str: ...

    def recipe(self, prompt: Prompt) -> Recipe: ...

    def __call__(self, prompts: Sequence[Prompt]) -> list[Made]: ...


@dataclass(frozen=True)
class PipelineMaker:
    """Samples by a checkpoint; `common` is the recipe that all share."""

    pipe: Pipeline
    settings: Settings
    common: Recipe

    @property
    def ending(self) -> str:
        return ".wav" if isinstance(self.pipe.family, AudioFamily) else ".png"

    def recipe(self, prompt: Prompt) -> Recipe:
        negative = self.settings.negative_of(prompt.index) if prompt.negative is None else prompt.negative
        return replace(self.common, prompt=prompt.text, seed=prompt.seed, negative_prompt=negative)

    def __call__(self, prompts: Sequence[Prompt]) -> list[Made]:
        return list(self._together([self.recipe(prompt) for prompt in prompts]))

    def _together(self, recipes: Sequence[Recipe]) -> Iterator[Made]:
        call = self.settings.call()
        call |= {"seed": [recipe.seed for recipe in recipes]}
        call |= {"negative_prompt": [recipe.negative_prompt for recipe in recipes]}
        call |= {"output": "audio"} if self.ending == ".wav" else {}
        texts = [recipe.prompt for recipe in recipes]
        out = self.pipe(
            texts, steps=self.settings.steps, accelerator=self.common.accelerator, progress=False, **call
        )  # fmt: skip
        height, width = out.images.shape[-2:]
        for row, recipe in enumerate(recipes):
            own = replace(
                recipe, width=width, height=height, nfe=out.stats.nfe[row], modes=tuple(out.stats.modes[row])
            )  # fmt: skip
            if out.audio is None or out.sample_rate is None:
                yield Made(encode_png(to_image(out.images[row]), own.chunks()), own)
            else:
                yield Made(encode_wav(out.audio[row], out.sample_rate, own.to_json()), own)


def sample_many(
    folder: Folder,
    prompts: Sequence[Prompt],
    batch: int,
    maker: Maker,
    shard: Shard,
    advance: Advance = lambda prompts: None,
    say: Say = lambda problem: None,
) -> None:
    """Sample what of this process's share the folder does not hold yet.

    `batch` consecutive prompts are sampled together, whoever does it, since the last bits of a sample depend on the
    company it is computed in. A prompt that cannot be sampled is told of in its line, and holds up no other.
    """
    for number in shard.share(folder.batches):
        wanted = prompts[number * batch : (number + 1) * batch]
        if not folder.has(number):
            files: dict[str, bytes] = {}
            lines: list[Line] = []
            for prompt, made, together in _attempt(maker, wanted, say):
                if isinstance(made, Made):
                    files[prompt.name + maker.ending] = made.content
                lines.append(_line(prompt, made, together, maker))
            folder.keep(number, files, lines)
        advance(len(wanted))


def share_size(prompts: int, batch: int, shard: Shard) -> int:
    """How many of the prompts are this process's."""
    return sum(min(batch, prompts - number * batch) for number in shard.share(-(-prompts // batch)))


Attempt = tuple[Prompt, Made | str, int]  # what was made or why not, and how many were sampled together


def _attempt(maker: Maker, prompts: Sequence[Prompt], say: Say) -> list[Attempt]:
    """Sample the prompts together; where that fails, each half by itself."""
    try:
        return [(prompt, made, len(prompts)) for prompt, made in zip(prompts, maker(prompts), strict=True)]
    except (FloatingPointError, RuntimeError, MemoryError) as error:
        if not isinstance(error, FloatingPointError) and not out_of_memory(error):
            raise
        if isinstance(error, NotEnoughMemory) and len(prompts) == 1:  # so it is for every prompt
            raise
        problem = "not enough memory" if out_of_memory(error) else f"{type(error).__name__}: {error}"
    # Only here, where the error is gone and with it the frames that it kept, their tensors are freed.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    first, last = prompts[0].index, prompts[-1].index
    if len(prompts) == 1:
        say(f"prompt {first} failed, {problem}: {prompts[0].text!r}")
        return [(prompts[0], problem, 1)]
    say(f"prompts {first} to {last}: {problem}; trying each half by itself")
    half = len(prompts) // 2
    return _attempt(maker, prompts[:half], say) + _attempt(maker, prompts[half:], say)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory was short, on a GPU or beside it; torch's class for it does not cover the processor's."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def _line(prompt: Prompt, made: Made | str, together: int, maker: Maker) -> Line:
    known = {"index": prompt.index, "name": prompt.name}
    if isinstance(made, str):
        failed = {"file": None, "sha256": None, "error": made, "together": together}
        return known | failed | asdict(maker.recipe(prompt))
    digest = hashlib.sha256(made.content).hexdigest()
    done = {"file": prompt.name + maker.ending, "sha256": digest, "error": None, "together": together}
    return known | done | asdict(made.recipe)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let this process compute in `count` threads of the processor."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
