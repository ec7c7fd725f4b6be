"""Finds metrics by name: the published networks, or those that the caller supplies.

The published networks need the extra `metrics` and download their weights when first used.
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
    """A metric with a value for every sample.

    Attributes:
        measure: (pictures, plain pictures, prompts) -> (B,). Pictures are (B, 3, H, W), RGB in [0, 1], on the CPU;
            for sounds they are made by `sadaflow.metrics.spectrogram_pictures`.
        lower_is_better: Whether a smaller value means higher fidelity.
        source: Name of the network, for the report.
    """

    measure: Callable[[Tensor, Tensor, Sequence[str]], Tensor]
    lower_is_better: bool
    source: str


@dataclass(frozen=True)
class SetMetric:
    """A metric with one value for all samples of a setting, such as FID. Lower is better.

    Attributes:
        features: Pictures (B, 3, H, W) in [0, 1] -> features (B, D).
        source: Name of the network, for the report.
        distance: (features (N, D), features of the plain samples (N, D)) -> value.
    """

    features: Features
    source: str
    distance: Callable[[Tensor, Tensor], float] = frechet_distance


Metric = SampleMetric | SetMetric


def find_metrics(
    names: Sequence[str], device: torch.device, given: Mapping[str, Metric] | None = None
) -> dict[str, Metric]:
    """Finds metrics by name.

    Args:
        names: Each a key of `given`, a published metric, or "module:object" of the user's own.
        device: Where the published networks run.
        given: Metrics of the caller, by name.

    Returns:
        Metric of each name.

    Raises:
        ValueError: If a name is unknown, or the object is not a metric.
        ImportError: If a package is missing; the message says what to install.
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
            f"unknown metric {name!r}; known: {', '.join([*given, *PUBLISHED])}, or module:object for a metric of yours"
        )
    found = getattr(_imported(module, f"metric {name!r} names a module that cannot be imported"), attribute, None)
    if not isinstance(found, SampleMetric | SetMetric):
        raise ValueError(f"metric {name!r} is {found!r}; it must be a SampleMetric or SetMetric of sadaflow.metrics")
    return found


def _imported(module: str, message: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"{message} ({error})") from error


def _torchmetrics(metric: str, module: str) -> Any:
    """Imports a module of torchmetrics. Its classes can raise ImportErrors too: see `_built`."""
    return _imported(f"torchmetrics.{module}", _NEEDS.format(metric))


_NEEDS = "metric {!r} needs the extra: pip install 'sadaflow[metrics]'"


def _built(metric: str, build: Callable[[], Any], device: torch.device) -> Any:
    try:
        return build().to(device)
    except ImportError as error:
        raise ImportError(f"{_NEEDS.format(metric)} ({error})") from error


def _lpips(device: torch.device) -> Metric:
    cls = _torchmetrics("lpips", "image.lpip").LearnedPerceptualImagePatchSimilarity
    network = _built("lpips", lambda: cls(net_type="alex", normalize=True), device)

    def measure(pictures: Tensor, plain: Tensor, prompts: Sequence[str]) -> Tensor:
        pairs = zip(pictures.to(device), plain.to(device), strict=True)
        return torch.stack([_single(network, picture[None], reference[None]) for picture, reference in pairs])

    return SampleMetric(measure, lower_is_better=True, source=f"AlexNet, torchmetrics {version('torchmetrics')}")


def _fid(device: torch.device) -> Metric:
    cls = _torchmetrics("fid", "image.fid").FrechetInceptionDistance
    network = _built("fid", lambda: cls(feature=2048), device).inception

    def features(pictures: Tensor) -> Tensor:
        return network((pictures * 255).round().to(device, torch.uint8)).cpu()

    return SetMetric(features, source=f"Inception v3, 2048 features, torchmetrics {version('torchmetrics')}")


def _clip(device: torch.device) -> Metric:
    name = "openai/clip-vit-large-patch14"
    cls = _torchmetrics("clip", "multimodal.clip_score").CLIPScore
    network = _built("clip", lambda: cls(model_name_or_path=name), device)

    def measure(pictures: Tensor, plain: Tensor, prompts: Sequence[str]) -> Tensor:
        whole = (pictures * 255).round().to(device, torch.uint8)
        return torch.stack([_single(network, *pair) for pair in zip(whole, prompts, strict=True)])

    return SampleMetric(measure, lower_is_better=False, source=f"{name}, torchmetrics {version('torchmetrics')}")


def _image_reward(device: torch.device) -> Metric:
    module = _imported("ImageReward", "metric 'image-reward' needs its authors' package: pip install image-reward")
    network = module.load("ImageReward-v1.0", device=str(device))

    def measure(pictures: Tensor, plain: Tensor, prompts: Sequence[str]) -> Tensor:
        pairs = zip(to_pil(pictures), prompts, strict=True)
        return torch.tensor([float(network.score(prompt, picture)) for picture, prompt in pairs])

    return SampleMetric(measure, lower_is_better=False, source="ImageReward-v1.0")


def _single(network: Any, *arguments: Any) -> Tensor:
    """Computes a torchmetrics metric of one sample, and resets the state that it accumulates."""
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
