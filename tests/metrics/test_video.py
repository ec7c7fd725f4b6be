"""Metrics of every frame of a video."""

import math

import pytest
import torch

from sadaflow.metrics.fidelity import psnr
from sadaflow.metrics.video import is_sound, is_video, per_frame


def test_each_frame_has_the_value_of_its_picture() -> None:
    reference = torch.full((2, 3, 3, 16, 16), 0.5)
    steps = torch.tensor([[0.1, 0.01, 0.0], [0.2, 0.05, 0.001]])
    found = per_frame(psnr, reference + steps[..., None, None, None], reference)
    expected = [[-20 * math.log10(step) if step else math.inf for step in row] for row in steps.double().tolist()]
    assert found.shape == (2, 3)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="one shape"):
        per_frame(psnr, reference, reference[:, :2])


def test_videos_pictures_and_sounds_are_told_apart() -> None:
    assert is_video(torch.zeros(1, 1, 3, 8, 8)) and not is_sound(torch.zeros(1, 1, 3, 8, 8))
    assert is_sound(torch.zeros(1, 1, 8, 8)) and not is_sound(torch.zeros(1, 3, 8, 8))
