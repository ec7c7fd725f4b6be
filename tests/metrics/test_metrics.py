"""PSNR and SSIM against scikit-image, scipy and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from sadaflow.metrics import psnr, spectrogram_psnr, ssim


def pair(noise: float, shape: tuple[int, ...] = (3, 3, 40, 52)) -> tuple[Tensor, Tensor]:
    """Smooth random pictures and the same with noise, in [0, 1]."""
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.random(shape), (0, 0, 3, 3))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    noisy = np.clip(smooth + noise * rng.standard_normal(shape), 0, 1)
    return torch.from_numpy(noisy).float(), torch.from_numpy(smooth).float()


@pytest.mark.parametrize("noise", [0.002, 0.05, 0.5])
def test_psnr_matches_scikit_image(noise: float) -> None:
    images, reference = pair(noise)
    expected = [peak_signal_noise_ratio(r.double().numpy(), i.double().numpy(), data_range=1)
                for i, r in zip(images, reference, strict=True)]  # fmt: skip
    assert psnr(images, reference).tolist() == pytest.approx(expected, rel=1e-12)


def test_psnr_of_spectrograms_has_the_range_of_the_reference_for_its_peak() -> None:
    rng = np.random.default_rng(3)
    reference = rng.normal(-5, 3, (2, 1, 30, 8))
    noisy = reference + rng.normal(0, 0.1, reference.shape)
    expected = [peak_signal_noise_ratio(r, n, data_range=np.ptp(r)) for r, n in zip(reference, noisy, strict=True)]
    found = spectrogram_psnr(torch.from_numpy(noisy), torch.from_numpy(reference))
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    flat = torch.zeros(1, 1, 4, 4)
    assert spectrogram_psnr(flat, flat).item() == math.inf
    with pytest.raises(ValueError, match="frames, mels"):
        spectrogram_psnr(flat, flat[0])


@pytest.mark.parametrize("noise", [0.002, 0.05, 0.5])
def test_ssim_matches_scikit_image(noise: float) -> None:
    images, reference = pair(noise)
    expected = [
        structural_similarity(
            i.double().numpy(), r.double().numpy(), channel_axis=0, data_range=1,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )
        for i, r in zip(images, reference, strict=True)
    ]  # fmt: skip
    assert ssim(images, reference).tolist() == pytest.approx(expected, abs=1e-10)


def test_ssim_matches_scipy_filters() -> None:
    images, reference = pair(0.1, (1, 1, 24, 24))
    x, y = images[0, 0].double().numpy(), reference[0, 0].double().numpy()

    def mean(a: np.ndarray) -> np.ndarray:
        return gaussian_filter(a, 1.5, radius=5)[5:-5, 5:-5]

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    index = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    assert ssim(images, reference).item() == pytest.approx(index.mean(), abs=1e-10)


def test_constant_offset_has_a_closed_form() -> None:
    reference = torch.full((1, 3, 16, 16), 0.25, dtype=torch.float64)
    images = reference + 0.5
    assert psnr(images, reference).item() == pytest.approx(20 * math.log10(2))
    expected = (2 * 0.75 * 0.25 + 1e-4) / (0.75**2 + 0.25**2 + 1e-4)
    assert ssim(images, reference).item() == pytest.approx(expected)


def test_equal_images_are_perfect_and_images_are_independent() -> None:
    images, reference = pair(0.05)
    images[1] = reference[1]
    assert psnr(images, reference)[1] == math.inf
    assert ssim(images, reference)[1].item() == pytest.approx(1)
    assert ssim(images, reference)[2] == ssim(images[2:], reference[2:])[0]
    assert psnr(images, reference)[2] == psnr(images[2:], reference[2:])[0]


def test_bad_input_is_refused() -> None:
    good = torch.zeros(1, 3, 16, 16)
    with pytest.raises(ValueError, match=r"\(1, 3, 16, 16\) and \(1, 3, 16, 15\)"):
        psnr(good, good[..., :15])
    with pytest.raises(ValueError, match="11x11"):
        ssim(good[..., :8], good[..., :8])
    with pytest.raises(ValueError, match=r"reference must lie in \[0, 1\], got values from -1"):
        psnr(good, good - 1)
    with pytest.raises(ValueError, match="nan"):
        psnr(good * math.nan, good)
