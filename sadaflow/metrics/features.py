"""Metrics over the features of a network that the caller brings: LPIPS, FID, CLIP score. docs/metrics.md defines all.

Any callable will do as a network, so that none of these needs a download; `sadaflow.metrics` has the published ones.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Layers = Callable[[Tensor], Sequence[Tensor]]  # pictures (B, 3, H, W) in [0, 1] -> layers, each (B, C, h, w)
Features = Callable[[Tensor], Tensor]  # pictures (B, 3, H, W) in [0, 1] -> (B, D)


def lpips(images: Tensor, reference: Tensor, layers: Layers, weights: Sequence[Tensor] | None = None) -> Tensor:
    """Learned perceptual distance (Zhang et al. 2018, arXiv 1801.03924, eq. 1), 0 where features are equal.

    images, reference (B, 3, H, W) in [0, 1] -> (B,). Features are divided by their length over channels; squared
    differences, weighted by a non-negative number for each channel of each layer (None: 1), are summed over channels,
    averaged over positions and summed over layers. Raises ValueError for shapes or weights that do not fit.
    """
    if images.shape != reference.shape or images.ndim != 4:
        raise ValueError(
            f"images and reference must both be (B, 3, H, W), got {tuple(images.shape)} and {tuple(reference.shape)}"
        )
    pairs = list(zip(layers(images), layers(reference), strict=True))
    scales = [torch.ones(one.shape[1]) for one, _ in pairs] if weights is None else list(weights)
    if [scale.numel() for scale in scales] != [one.shape[1] for one, _ in pairs]:
        raise ValueError(
            f"LPIPS needs a weight for every channel: layers have {[one.shape[1] for one, _ in pairs]} channels, "
            f"weights {[scale.numel() for scale in scales]}"
        )
    total = torch.zeros(images.shape[0], dtype=torch.float64)
    for (one, other), scale in zip(pairs, scales, strict=True):
        difference = (_unit(one.double()) - _unit(other.double())).square()
        weighted = difference * scale.to(difference).view(1, -1, 1, 1)
        total += weighted.sum(dim=1).mean(dim=(1, 2)).cpu()
    return total


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def frechet_distance(features: Tensor, reference: Tensor) -> float:
    """Fréchet distance of two Gaussians fitted to features (N, D) and (M, D): FID where they are Inception's.

    |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), covariances with N - 1 (Heusel et al. 2017, arXiv 1706.08500, eq. 6). With
    C = R^T R and C' = R'^T R', the trace of the root is the sum of the singular values of R R'^T, which needs no root
    of a singular matrix. Raises ValueError for fewer than two rows or different D.
    """
    if features.ndim != 2 or reference.ndim != 2 or features.shape[1] != reference.shape[1]:
        raise ValueError(f"features must be (N, D) and (M, D), got {tuple(features.shape)}, {tuple(reference.shape)}")
    if min(len(features), len(reference)) < 2:
        raise ValueError(f"a covariance needs at least 2 samples, got {len(features)} and {len(reference)}")
    (mean, root), (wanted, other) = _gaussian(features), _gaussian(reference)
    common = torch.linalg.svdvals(root @ other.mT).sum()
    return max(0.0, float((mean - wanted).square().sum() + root.square().sum() + other.square().sum() - 2 * common))


def _gaussian(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, and R with R^T R the covariance."""
    values = features.double()
    mean = values.mean(dim=0)
    return mean, torch.linalg.qr((values - mean) / (len(values) - 1) ** 0.5, mode="r").R


def clip_score(image_features: Tensor, text_features: Tensor) -> Tensor:
    """max(100 cos, 0) of every picture and its prompt (Hessel et al. 2021, arXiv 2104.08718): (B, D) twice -> (B,)."""
    cosine = torch.nn.functional.cosine_similarity(image_features.double(), text_features.double(), dim=1)
    return (100 * cosine).clamp(min=0)
