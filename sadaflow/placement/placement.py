"""Where the weights of a pipeline lie, and in what form."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

from sadaflow.models import lay_out_channels_last

from ..loading.strict import Keeper
from .offload import Offload, make_offload
from .quantization import Quantize


@dataclass(frozen=True)
class Residence:
    """Networks compute on `device`; their weights lie there too, unless an `offload` knows better."""

    device: torch.device
    offload: Offload | None = None
    quantize: Quantize | None = None

    @classmethod
    def read(cls, device: torch.device, offload: str | None, quantize: str | None) -> Self:
        """By the names that a user gives; ValueError for those that are not known or do not go together."""
        if offload == "stream" and quantize is not None:
            raise ValueError(f"quantize={quantize!r} needs all weights at once, which offload='stream' never has")
        return cls(
            device,
            None if offload is None else make_offload(offload, device),
            None if quantize is None else Quantize.named(quantize),
        )

    @property
    def loads(self) -> torch.device:
        """Where weights are to be loaded."""
        return self.device if self.offload is None and self.quantize is None else torch.device("cpu")

    @property
    def keeper(self) -> Keeper | None:
        """What networks are to be left to in place of loading them."""
        if self.quantize is not None:
            return self.quantize
        return None if self.offload is None else self.offload.stream

    def take(self, networks: Mapping[str, nn.Module]) -> None:
        """See to the `networks`, now that they are loaded."""
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
        """ValueError where weights come and go, which what is compiled cannot know."""
        if self.offload is not None:
            raise ValueError("compile() needs the weights where they compute: load the pipeline without offload=")

    @contextmanager
    def changing(self) -> Iterator[None]:
        """While weights are changed, as a LoRA does; ValueError where they cannot be."""
        if self.quantize is not None:
            raise ValueError("quantized weights cannot be changed: merge the LoRA without quantize=")
        if self.offload is None:
            yield
        else:
            with self.offload.changing():
                yield
