"""Metrics on the features of a network that the caller supplies: LPIPS, FID, CLIP score. docs/metrics.md defines them.

The network can be any callable, so nothing here needs a download; `find_metrics` loads the published networks.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Layers = Callable[[Tensor], Sequence[Tensor]]  # pictures (B, 3, H, W) in [0, 1] -> layers, each (B, C, h, w)
Features = Callable[[Tensor], Tensor]  # pictures (B, 3, H, W) in [0, 1] -> (B, D)


def lpips(images: Tensor, reference: Tensor, layers: Layers, weights: Sequence[Tensor] | None = None) -> Tensor:
    """Computes the learned perceptual distance of pictures.

    At every position the features of a layer are divided by their norm over channels. Their squared differences are
    weighted, summed over channels, averaged over positions and summed over layers.

    Args:
        images: (B, 3, H, W) in [0, 1].
        reference: The same shape and range.
        layers: Network: pictures -> features of each layer, (B, C, h, w).
        weights: Non-negative weights of each layer's channels, C numbers per layer. None: all are 1.

    Returns:
        (B,), float64; 0 where features are equal.

    Raises:
        ValueError: If shapes differ, or the weights do not match the channels.

    Source:
        Zhang et al. 2018, arXiv 1801.03924, eq. 1.
    """
    if images.shape != reference.shape or images.ndim != 4:
        raise ValueError(
            f"images and reference must both be (B, 3, H, W), got {tuple(images.shape)} and {tuple(reference.shape)}"
        )
    pairs = list(zip(layers(images), layers(reference), strict=True))
    scales = [torch.ones(found.shape[1]) for found, _ in pairs] if weights is None else list(weights)
    channels, given = [found.shape[1] for found, _ in pairs], [scale.numel() for scale in scales]
    if channels != given:
        raise ValueError(f"LPIPS needs a weight for every channel: layers have {channels} channels, weights {given}")
    total = torch.zeros(images.shape[0], dtype=torch.float64)
    for (found, expected), scale in zip(pairs, scales, strict=True):
        difference = (_unit(found.double()) - _unit(expected.double())).square()
        weighted = difference * scale.to(difference).view(1, -1, 1, 1)
        total += weighted.sum(dim=1).mean(dim=(1, 2)).cpu()
    return total


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def frechet_distance(features: Tensor, reference: Tensor) -> float:
    """Computes the Fréchet distance of two Gaussians fitted to features. With features of Inception v3 it is the FID.

    |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), with means m and covariances C (divisor N - 1). With C = R^T R and
    C' = R'^T R', the trace of the root is the sum of the singular values of R R'^T, so no root of a singular matrix is
    needed.

    Args:
        features: (N, D), at least 2 rows.
        reference: (M, D), at least 2 rows.

    Returns:
        The distance, at least 0.

    Raises:
        ValueError: If there are fewer than two rows or the numbers of columns differ.

    Source:
        Heusel et al. 2017, arXiv 1706.08500, eq. 6.
    """
    if features.ndim != 2 or reference.ndim != 2 or features.shape[1] != reference.shape[1]:
        raise ValueError(f"features must be (N, D) and (M, D), got {tuple(features.shape)}, {tuple(reference.shape)}")
    if min(len(features), len(reference)) < 2:
        raise ValueError(f"a covariance needs at least 2 samples, got {len(features)} and {len(reference)}")
    (mean, root), (other_mean, other_root) = _gaussian(features), _gaussian(reference)
    common = torch.linalg.svdvals(root @ other_root.mT).sum()
    traces = root.square().sum() + other_root.square().sum()
    return max(0.0, float((mean - other_mean).square().sum() + traces - 2 * common))


def _gaussian(features: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean (D,), and R such that R^T R is the covariance (D, D)."""
    values = features.double()
    mean = values.mean(dim=0)
    return mean, torch.linalg.qr((values - mean) / (len(values) - 1) ** 0.5, mode="r").R


def clip_score(image_features: Tensor, text_features: Tensor) -> Tensor:
    """Computes the CLIP score of pictures and their prompts: 100 max(cos, 0).

    Args:
        image_features: (B, D), CLIP's projected features of the pictures.
        text_features: (B, D), those of the prompts.

    Returns:
        (B,) in [0, 100], float64.

    Source:
        Hessel et al. 2021, arXiv 2104.08718.
    """
    cosine = torch.nn.functional.cosine_similarity(image_features.double(), text_features.double(), dim=1)
    return (100 * cosine).clamp(min=0)
