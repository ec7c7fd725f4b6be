"""Where the weights of a pipeline are kept, and in which form."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

from sadaflow.models import lay_out_channels_last

from ..loading.weight_source import Keeper
from .offload import Offload, make_offload
from .quantization import Quantize


@dataclass(frozen=True)
class Residence:
    """Where a pipeline computes and where its weights are kept.

    Attributes:
        device: Where the networks compute.
        offload: Moves weights between host memory, or files, and the device; None if they stay on the device.
        quantize: Quantizes the weights of large networks; None for weights as they are stored.
    """

    device: torch.device
    offload: Offload | None = None
    quantize: Quantize | None = None

    @classmethod
    def read(cls, device: torch.device, offload: str | None, quantize: str | None) -> Self:
        """Create the residence that a user asks for.

        Args:
            device: Where the networks compute.
            offload: None or a name in `OFFLOADS`.
            quantize: None or a name in `QUANTIZATIONS`.

        Raises:
            ValueError: If a name is unknown, or if the two cannot be combined.
            ImportError: If torchao is needed and not installed.
        """
        if offload == "stream" and quantize is not None:
            raise ValueError(f"quantize={quantize!r} needs all weights in memory, and offload='stream' keeps them out")
        return cls(
            device,
            None if offload is None else make_offload(offload, device),
            None if quantize is None else Quantize.named(quantize),
        )

    @property
    def loads(self) -> torch.device:
        """The device that weights are loaded to."""
        return self.device if self.offload is None and self.quantize is None else torch.device("cpu")

    @property
    def keeper(self) -> Keeper | None:
        """Takes over networks instead of their being loaded; None to load them."""
        if self.quantize is not None:
            return self.quantize
        return None if self.offload is None else self.offload.stream

    def take(self, networks: Mapping[str, nn.Module]) -> None:
        """Quantize, lay out and move the weights of `networks`, which have been loaded."""
        if self.quantize is not None:
            self.quantize.take(networks)
        if self.device.type == "cuda":
            for network in networks.values():
                lay_out_channels_last(network)
        if self.offload is not None:
            self.offload.take(networks)
        elif self.quantize is not None:
            for network in networks.values():
                network.to(self.device)

    def refuse_compiling(self) -> None:
        """Raise ValueError if weights are offloaded: compiled code cannot follow weights that move."""
        if self.offload is not None:
            raise ValueError("compile() needs weights that stay on the device: load the pipeline without offload=")

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Context manager for changing weights, such as merging a LoRA.

        Raises:
            ValueError: If the weights are quantized or are read from files.
        """
        if self.quantize is not None:
            raise ValueError("quantized weights cannot be changed: merge the LoRA without quantize=")
        if self.offload is None:
            yield
        else:
            with self.offload.changing():
                yield


def require_copyable(residence: Residence, compiled: bool) -> None:
    """Raises ValueError if a pipeline cannot be copied or pickled: offloaded, quantized or compiled."""
    if residence.offload is not None or residence.quantize is not None:
        how = "offload=" if residence.offload is not None else "quantize="
        raise ValueError(f"a pipeline with {how} cannot be copied or pickled: load it anew where it is needed")
    if compiled:
        raise ValueError("a compiled pipeline cannot be copied or pickled: copy it first, then compile the copy")
