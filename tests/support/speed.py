"""Arguments that most tests of `bench speed` pass."""

import torch

CPU, FLOAT = torch.device("cpu"), torch.float32


def ignore(count: int) -> None:
    """Takes the progress of a measurement and shows nothing."""
