"""Which processes sample together, and how they divide the work."""

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
    """Processes that sample together, each on its own device. All load the same pipeline and make the same calls.

    Attributes:
        mesh: A device mesh with a dimension "guidance" of size 1 or 2 (a branch of classifier-free guidance per
            process), a dimension "context" (a part of a transformer's tokens per process), or both. Select these
            from a larger mesh: `Parallel(mesh["guidance", "context"])`.

    Raises:
        ValueError: if the mesh has other dimensions.
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
        """Uses all processes of the default process group.

        Args:
            guidance: Number of processes along the guidance axis, 1 or 2.
            context: Number of processes along the context axis.
            device: Device type of each process, "cuda" or "cpu"; None takes "cuda" if it is available.

        Raises:
            ValueError: if no process group is initialised, or guidance * context is not its number of processes.
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
            raise ValueError(f"guidance={guidance} x context={context} processes do not fit the {world} of the group")
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(init_device_mesh(device, (guidance, context), mesh_dim_names=AXES))

    @property
    def guidance(self) -> Axis | None:
        """The two processes that evaluate a branch each, the negative branch first; None if each evaluates both."""
        return self._axis("guidance")

    @property
    def context(self) -> Axis | None:
        """The processes that divide the tokens; None if each has all tokens."""
        return self._axis("context")

    def denoiser(self, denoise: GuidedDenoiser) -> GuidedDenoiser:
        """Divides the evaluations of `denoise` among the processes.

        Raises:
            ValueError: if it has no negative branch for the guidance axis, or no trunk for the context axis.
        """
        return ParallelDenoiser.among(denoise, self.guidance, self.context)

    def require_same(self, call: Mapping[str, object], device: torch.device) -> None:
        """Checks that all processes make the same call.

        Args:
            call: Arguments by name. Tensors are compared by value, others by their repr.
            device: The device of this process.

        Raises:
            ValueError: in all processes, if arguments differ, with their names.
        """
        digests = torch.tensor([_digest(value) for value in call.values()], device=device)
        gathered = digests[None]
        for axis in (self.guidance, self.context):
            if axis is not None:
                gathered = axis.gather(gathered).flatten(0, 1)
        same = (gathered == gathered[0]).all(dim=0).tolist()
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
    """A signed 64-bit digest."""
    if isinstance(value, Tensor):
        content = value.double().cpu().numpy().tobytes()
    else:
        content = re.sub(r" at 0x[0-9a-f]+", "", repr(value)).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little", signed=True)
