"""Metrics by name, as a bench asks for them: with the published networks, or with any that the caller brings.

The published networks come through the extra `metrics` and download their weights when first used.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any, Final

import torch
from torch import Tensor

from ..files.images import to_pil
from .features import Features, frechet_distance


@dataclass(frozen=True)
class SampleMetric:
    """A number for every sample: measure(pictures, plain pictures, prompts) -> (B,).

    Pictures are (B, 3, H, W), RGB in [0, 1], on the CPU; of sounds, see `sadaflow.metrics.spectrogram_pictures`.
    `source` tells which network it is, for the report.
    """

    measure: Callable[[Tensor, Tensor, Sequence[str]], Tensor]
    lower_is_better: bool
    source: str


@dataclass(frozen=True)
class SetMetric:
    """A number for all samples of a setting: distance((N, D) of the pictures, (N, D) of the plain ones)."""

    features: Features
    source: str
    distance: Callable[[Tensor, Tensor], float] = frechet_distance


Metric = SampleMetric | SetMetric


def find_metrics(
    names: Sequence[str], device: torch.device, given: Mapping[str, Metric] | None = None
) -> dict[str, Metric]:
    """The metrics called `names`: of those `given`, of the published ones, or "module:object" of the user's own.

    Raises ValueError for a name that is none of these, ImportError that names the extra where it is missing.
    """
    return {name: _find(name, device, given or {}) for name in names}


def _find(name: str, device: torch.device, given: Mapping[str, Metric]) -> Metric:
    if name in given:
        return given[name]
    if name in PUBLISHED:
        return PUBLISHED[name](device)
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(
            f"unknown metric {name!r}; known: {', '.join([*given, *PUBLISHED])}, or module:object for one of your own"
        )
    found = getattr(_imported(module, f"metric {name!r} names a module that cannot be imported"), attribute, None)
    if not isinstance(found, SampleMetric | SetMetric):
        raise ValueError(f"metric {name!r} is {found!r}; it must be a SampleMetric or SetMetric of sadaflow.metrics")
    return found


def _imported(module: str, otherwise: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"{otherwise} ({error})") from error


def _torchmetrics(what: str, module: str) -> Any:
    """A module of torchmetrics; its classes raise ImportErrors too, of which `_built` makes ours."""
    return _imported(f"torchmetrics.{module}", _NEEDS.format(what))


_NEEDS = "metric {!r} needs the extra: pip install 'sadaflow[metrics]'"


def _built(what: str, build: Callable[[], Any], device: torch.device) -> Any:
    try:
        return build().to(device)
    except ImportError as error:
        raise ImportError(f"{_NEEDS.format(what)} ({error})") from error


def _lpips(device: torch.device) -> Metric:
    kind = _torchmetrics("lpips", "image.lpip").LearnedPerceptualImagePatchSimilarity
    network = _built("lpips", lambda: kind(net_type="alex", normalize=True), device)

    def measure(pictures: Tensor, plain: Tensor, prompts: Sequence[str]) -> Tensor:
        pairs = zip(pictures.to(device), plain.to(device), strict=True)
        return torch.stack([_alone(network, one[None], other[None]) for one, other in pairs])

    return SampleMetric(measure, lower_is_better=True, source=f"AlexNet, torchmetrics {version('torchmetrics')}")


def _fid(device: torch.device) -> Metric:
    kind = _torchmetrics("fid", "image.fid").FrechetInceptionDistance
    network = _built("fid", lambda: kind(feature=2048), device).inception

    def features(pictures: Tensor) -> Tensor:
        return network((pictures * 255).round().to(device, torch.uint8)).cpu()

    return SetMetric(features, source=f"Inception v3, 2048 features, torchmetrics {version('torchmetrics')}")


def _clip(device: torch.device) -> Metric:
    name = "openai/clip-vit-large-patch14"
    kind = _torchmetrics("clip", "multimodal.clip_score").CLIPScore
    network = _built("clip", lambda: kind(model_name_or_path=name), device)

    def measure(pictures: Tensor, plain: Tensor, prompts: Sequence[str]) -> Tensor:
        whole = (pictures * 255).round().to(device, torch.uint8)
        return torch.stack([_alone(network, one, prompt) for one, prompt in zip(whole, prompts, strict=True)])

    return SampleMetric(measure, lower_is_better=False, source=f"{name}, torchmetrics {version('torchmetrics')}")


def _image_reward(device: torch.device) -> Metric:
    module = _imported("ImageReward", "metric 'image-reward' needs its authors' package: pip install image-reward")
    network = module.load("ImageReward-v1.0", device=str(device))

    def measure(pictures: Tensor, plain: Tensor, prompts: Sequence[str]) -> Tensor:
        pairs = zip(to_pil(pictures), prompts, strict=True)
        return torch.tensor([float(network.score(prompt, picture)) for picture, prompt in pairs])

    return SampleMetric(measure, lower_is_better=False, source="ImageReward-v1.0")


def _alone(network: Any, *arguments: Any) -> Tensor:
    """A torchmetrics metric of one sample; it keeps what it saw, which is of no use here."""
    with torch.no_grad():
        value = network(*arguments)
    network.reset()
    return value.detach().cpu().reshape(())


PUBLISHED: Final[Mapping[str, Callable[[torch.device], Metric]]] = {
    "lpips": _lpips,
    "fid": _fid,
    "clip": _clip,
    "image-reward": _image_reward,
}
