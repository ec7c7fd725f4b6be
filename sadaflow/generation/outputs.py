"""From a request to the bytes of its files, for one prompt and for thousands."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..families import AudioFamily
from ..families.request import Request, select_arguments
from ..files.images import to_image
from ..files.metadata import Recipe
from ..files.png import encode_png
from ..files.wav import encode_wav
from ..pipeline.output import Output
from ..pipeline.picture_files import digests_of
from ..pipeline.pipeline import Pipeline


@dataclass(frozen=True)
class Made:
    """One file.

    Attributes:
        content: Its bytes: PNG for a picture, WAV for a sound.
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
    """

    pipe: Pipeline
    request: Request
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def ending(self) -> str:
        """Ending of the files' names."""
        return ".wav" if isinstance(self.pipe.family, AudioFamily) else ".png"

    def recipe(self, request: Request, **known: Any) -> Recipe:
        """The record of a request, of which several prompts stand on a line each.

        Args:
            request: The request.
            known: Fields of the record that the request leaves open.
        """
        own: dict[str, Any] = {"steps": request.steps, "seed": request.seed, "model": self.model}
        own |= {"prompt": "\n".join(request.prompts), "negative_prompt": _lines(request.negative_prompt)}
        own |= {"height": request.height or 0, "width": request.width or 0, "versions": self.versions}
        return Recipe.of(request.given(), {**self.options, **digests_of(request)}, **{**own, **known})

    def sample(self, request: Request, progress: bool | None = None) -> Output:
        """Sample a request in the form that `file` encodes."""
        output = "audio" if self.ending == ".wav" else "tensor"
        return self.pipe(output=output, progress=progress, **request.arguments())

    def file(self, output: Output, request: Request, index: int) -> Made:
        """Encode the sample `index` of a request that was sampled to `output`."""
        height, width = output.images.shape[-2:]
        nfe, modes = output.stats.nfe[index], tuple(output.stats.modes[index])
        recipe = self.recipe(request.sample(index), height=height, width=width, nfe=nfe, modes=modes)
        if output.audio is None or output.sample_rate is None:
            return Made(encode_png(to_image(output.images[index]), recipe.chunks()), recipe)
        return Made(encode_wav(output.audio[index], output.sample_rate, recipe.to_json()), recipe)


def recorded_model(model: str | None, name: str) -> str:
    """The model in the metadata: the name of a folder, or the Hub id with the commit, which names a snapshot's folder.

    Args:
        model: As the user named it; None is the embedded default.
        name: Name of the folder that it was loaded from.
    """
    commit = len(name) == 40 and all(digit in "0123456789abcdef" for digit in name)
    return f"{model}@{name}" if commit else name


def recorded_request(recipe: Recipe) -> Request:
    """The request that a file records, without the images of `control`, of which only the names are recorded."""
    return replace(Request(**select_arguments(recipe.arguments())), control=None)


def _lines(negative: Any) -> str | None:
    return negative if negative is None or isinstance(negative, str) else "\n".join(entry or "" for entry in negative)
