"""What tells other weights apart without reading all of them."""

import hashlib
from collections.abc import Iterable

from torch import nn


def fingerprint(modules: Iterable[nn.Module]) -> str:
    """SHA-256 over the names and up to 64 values of every tensor of the modules, in hexadecimal digits."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            few = tensor.flatten()[:: max(1, tensor.numel() // 64)]
            digest.update(name.encode() + few.double().cpu().numpy().tobytes())
    return digest.hexdigest()
