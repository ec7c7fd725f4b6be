"""From a request to the bytes of its files, for one prompt and for thousands."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sadaflow.solvers.names.config import config_or_reason, from_config

from ..families.request import Request, select_arguments
from ..files.images import to_image
from ..files.metadata import Recipe
from ..files.png import encode_png
from ..files.video import encode_video
from ..files.wav import encode_wav
from ..guidance import Rule, guidance_text
from ..guidance.registry import names_foreign_code
from ..pipeline.inputs import read_accelerator
from ..pipeline.inversion import without_replayed_noise
from ..pipeline.output import Output
from ..pipeline.picture_files import digests_of
from ..pipeline.pipeline import Pipeline
from ..sampling.observing import Observer
from .endings import endings_of

_NAMED: Final = ("solver", "accelerator")
_RULES: Final = ("guidance", "true_guidance")


@dataclass(frozen=True)
class Made:
    """One file.

    Attributes:
        content: Its bytes: PNG for a picture, WAV for a sound, MP4, GIF or WebP for a video.
        recipe: The record of the run that it carries.
    """

    content: bytes
    recipe: Recipe


@dataclass(frozen=True)
class Generator:
    """Samples requests on a checkpoint and encodes each sample as a file.

    Attributes:
        pipe: The checkpoint.
        request: What all files share, its solver, steps, guidance and accelerator filled in by name.
        model: The checkpoint's name in the files' metadata.
        options: How the checkpoint was loaded, and the names of the images in `control`, for the metadata.
        versions: Versions of the libraries, for the metadata.
        recorded: Fields of the metadata that take the place of those of the request.
    """

    pipe: Pipeline
    request: Request
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    recorded: Mapping[str, Any] = field(default_factory=dict)

    @property
    def endings(self) -> tuple[str, ...]:
        """Endings that the files' names may have; the first is the usual one."""
        return endings_of(self.pipe.family)

    @property
    def ending(self) -> str:
        """The usual ending of the files' names."""
        return self.endings[0]

    def recipe(self, request: Request, **known: Any) -> Recipe:
        """The record of a request, of which several prompts stand on a line each.

        Args:
            request: The request.
            known: Fields of the record that the request leaves open.
        """
        given = request.given()
        given |= {name: type(value).__name__ for name in _NAMED if not isinstance(value := given.get(name, ""), str)}
        if request.noise is not None:
            given["noise"] = f"sha256 {hashlib.sha256(request.noise.cpu().numpy().tobytes()).hexdigest()}"
        if request.words is not None:
            given["words"] = request.words.source
        given |= {name: guidance_text(rule) for name in _RULES if isinstance(rule := given.get(name), Rule)}
        own: dict[str, Any] = {"steps": request.steps, "seed": request.seed, "model": self.model}
        own |= {"accelerator_config": _config(read_accelerator(request))}
        own |= {"guidance_config": _config(request.guidance) if isinstance(request.guidance, Rule) else None}
        if "nfe" in known and len(request.prompts) == 1:  # a sample that was made
            sized = replace(request, height=known["height"], width=known["width"])
            of_call = self.pipe.solver_for if not request.starts_from_data else self.pipe.whole_solver_for
            own |= {"solver_config": _config(without_replayed_noise(of_call(sized)))}
        own |= {"prompt": "\n".join(request.prompts), "negative_prompt": _lines(request.negative_prompt)}
        own |= {"height": request.height or 0, "width": request.width or 0, "versions": self.versions}
        options = {**self.options, **digests_of(request)}
        return replace(Recipe.of(given, options, **{**own, **known}), **self.recorded)

    def sample(self, request: Request, progress: bool | None = None, observer: Observer | None = None) -> Output:
        """Sample a request in the form that `file` encodes; the observer is called after every step."""
        output = "audio" if self.ending == ".wav" else "tensor"
        return self.pipe(output=output, progress=progress, observer=observer, **request.arguments())

    def file(self, output: Output, request: Request, index: int, ending: str | None = None) -> Made:
        """Encode the sample `index` of a request that was sampled to `output`.

        Args:
            output: The samples.
            request: The request.
            index: Index of the sample.
            ending: Ending of the file, one of `endings`; None is the usual one.
        """
        height, width = self._size(output, request)
        nfe, modes = output.stats.nfe[index], tuple(output.stats.modes[index])
        recipe = self.recipe(request.sample(index), height=height, width=width, nfe=nfe, modes=modes)
        if (stopped := output.stats.stopped_after) is not None:
            recipe = replace(recipe, options={**recipe.options, "stopped_after": stopped})
        if output.fps is not None:
            content = encode_video(output.videos[index], output.fps, ending or self.ending, recipe.to_json())
            return Made(content, recipe)
        if output.audio is None or output.sample_rate is None:
            return Made(encode_png(to_image(output.images[index]), recipe.chunks()), recipe)
        return Made(encode_wav(output.audio[index], output.sample_rate, recipe.to_json()), recipe)

    def _size(self, output: Output, request: Request) -> tuple[int, int]:
        """Height and width that were sampled; those of the file differ where a crop was put back into its picture."""
        if request.padding_mask_crop is None:
            return tuple(output.images.shape[-2:])
        own = self.pipe.family.default_size
        return request.height or own[0], request.width or own[1]


def recorded_model(model: str | None, name: str) -> str:
    """The model in the metadata: the name of a folder, or the Hub id with the commit, which names a snapshot's folder.

    Args:
        model: As the user named it; None is the embedded default.
        name: Name of the folder that it was loaded from.
    """
    commit = len(name) == 40 and all(digit in "0123456789abcdef" for digit in name)
    return f"{model}@{name}" if commit else name


def recorded_request(recipe: Recipe, *, exact: bool = False, trusted: bool = False) -> Request:
    """The request that a file records, without the images of `control`, of which only the names are recorded.

    Args:
        recipe: The record.
        exact: Whether solver and accelerator are those of the record with all their settings, rather than what their
            names stand for now.
        trusted: Whether code outside of this library, which the record names, may be imported; see `from_config`.

    Raises:
        ValueError: If a name or a value is unknown; if the record names code that is not trusted; or if `exact` is
            asked for and the record has no configs.
    """
    arguments = select_arguments(recipe.arguments())
    if exact:
        if recipe.solver_config is None:
            raise ValueError("the record has no solver_config, so it is of an earlier version: leave out exact=True")
        arguments |= {"solver": from_config(recipe.solver_config, trusted=trusted), "grid": None, "speedup": None}
        held = recipe.accelerator_config
        arguments["accelerator"] = None if held is None else from_config(held, trusted=trusted)
        if recipe.guidance_config is not None:
            arguments["guidance"] = from_config(recipe.guidance_config, trusted=trusted)
    for name in (*_NAMED, *_RULES):
        text = arguments.get(name)
        if not isinstance(text, str) or trusted:
            continue
        if names_foreign_code(text) if name in _RULES else ":" in text:
            raise ValueError(
                f"the record names the {name} {text!r}, code outside of this library: pass trusted=True (--trusted) if "
                "you trust where the file is from"
            )
    return replace(Request(**arguments), control=None)


def _config(made: object) -> dict[str, Any] | None:
    return None if made is None else config_or_reason(made)


def _lines(negative: Any) -> str | None:
    return negative if negative is None or isinstance(negative, str) else "\n".join(entry or "" for entry in negative)
