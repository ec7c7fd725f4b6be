"""Which processes make one picture together, and how they share the work."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from sadaflow.sampling.denoiser import GuidedDenoiser

from .axis import Axis
from .denoiser import ParallelDenoiser

AXES = ("guidance", "context")


@dataclass(frozen=True)
class Parallel:
    """Processes that sample together, each on its own device: all load the same pipeline and make the same calls.

    `mesh` has a dimension "guidance" of 2 (a branch of classifier-free guidance each), a dimension "context" (a share
    of a transformer's tokens each), or both. Of a larger mesh give those: `Parallel(mesh["guidance", "context"])`.
    Raises ValueError for other dimensions.
    """

    mesh: DeviceMesh

    def __post_init__(self) -> None:
        names = self.mesh.mesh_dim_names or ()
        if not names or not set(names) <= set(AXES):
            raise ValueError(f"the mesh has dimensions {names}; known are 'guidance' and 'context'")
        size = self._size("guidance")
        if size not in (1, 2):
            raise ValueError(f"guidance={size}: guidance has two branches, so it takes 1 or 2 processes")

    @classmethod
    def across(cls, *, guidance: int = 1, context: int = 1, device: str | None = None) -> Self:
        """All processes of the default process group, guidance * context in number. `device` is the kind of device of
        each: "cuda" (the default where there is one) or "cpu".

        Raises ValueError where no process group is initialised or the numbers do not fit.
        """
        for name, size in (("guidance", guidance), ("context", context)):
            if size < 1:
                raise ValueError(f"{name}={size}: at least 1 process is needed")
        if not (dist.is_available() and dist.is_initialized()):
            raise ValueError(
                "no process group is initialised: start the script with torchrun, and call "
                "torch.distributed.init_process_group() first"
            )
        world = dist.get_world_size()
        if guidance * context != world:
            raise ValueError(f"guidance={guidance} x context={context} processes do not fit the {world} that there are")
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(init_device_mesh(device, (guidance, context), mesh_dim_names=AXES))

    @property
    def guidance(self) -> Axis | None:
        """The two processes that run a branch each, the negative one first; None where one runs both."""
        return self._axis("guidance")

    @property
    def context(self) -> Axis | None:
        """The processes that share the tokens; None where one has them all."""
        return self._axis("context")

    def denoiser(self, denoise: GuidedDenoiser) -> GuidedDenoiser:
        """`denoise`, computed together; ValueError where there is no negative branch to run apart."""
        return ParallelDenoiser.over(self, denoise)

    def require_same(self, call: Mapping[str, object], device: torch.device) -> None:
        """Raise ValueError, in all processes, naming what in `call` is not the same in all: tensors are compared by
        their numbers, anything else by its repr."""
        digests = torch.tensor([_digest(value) for value in call.values()], device=device)
        everybody = digests[None]
        for axis in (self.guidance, self.context):
            if axis is not None:
                everybody = axis.gather(everybody).flatten(0, 1)
        same = (everybody == everybody[0]).all(dim=0).tolist()
        differing = [name for name, alike in zip(call, same, strict=True) if not alike]
        if differing:
            raise ValueError(
                f"processes that sample together were called differently: {', '.join(differing)} must be the same"
            )

    def _size(self, name: str) -> int:
        names = self.mesh.mesh_dim_names or ()
        return self.mesh.size(names.index(name)) if name in names else 1

    def _axis(self, name: str) -> Axis | None:
        return Axis(self.mesh.get_group(name)) if self._size(name) > 1 else None


def _digest(value: object) -> int:
    """64 bits, signed."""
    if isinstance(value, Tensor):
        said = value.double().cpu().numpy().tobytes()
    else:
        said = re.sub(r" at 0x[0-9a-f]+", "", repr(value)).encode()
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "little", signed=True)
