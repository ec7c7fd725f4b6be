"""Checks the arguments of a call against the loaded checkpoint, and reads dtypes and devices.

Everything here raises ValueError before any work is done.
"""

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final, SupportsIndex

import torch
from torch import Tensor

from sadaflow.solvers.names.settings import nearest

from ..accelerators import Accelerator, Auto, make_accelerator
from ..families import AudioFamily, Family, Request, VideoFamily
from ..families.argument import cannot_be_used, count
from ..families.base import reads_prompts
from ..families.hooks import picture_optional, sized_by_family
from ..families.options import PLAIN
from ..parallel import Parallel
from .encoded import check_encoded
from .frames import noise_frames, read_frames
from .memory_need import require_memory_for_pictures, require_memory_for_steps
from .reads import check_read

DTYPES: Final[Mapping[str, torch.dtype]] = MappingProxyType(
    {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
)
_OTHER_DTYPES: Final = {
    "fp32": torch.float32, "float": torch.float32, "fp16": torch.float16, "half": torch.float16,
    "bf16": torch.bfloat16, "float64": torch.float64, "double": torch.float64,
}  # fmt: skip
_COMPUTING: Final = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
Seed = SupportsIndex | Sequence[SupportsIndex]
"""A whole number of any integer type, or a sequence with one for each sample."""
_OUTPUTS = ("pil", "tensor", "latent")
_AUDIO_OUTPUTS = ("audio", "tensor", "latent")


def read_dtype(dtype: Any) -> torch.dtype:
    """The dtype that networks compute in.

    Args:
        dtype: A floating-point `torch.dtype`, or its name: "float16", "fp16", "torch.float16".

    Raises:
        ValueError: If it is another dtype or name.
    """
    found = dtype
    if isinstance(dtype, str):
        name = dtype.lower().removeprefix("torch.")
        found = DTYPES.get(name, _OTHER_DTYPES.get(name))
    if found not in _COMPUTING:
        hint = '; eight bits are quantize="int8" or "fp8"' if "8" in str(dtype) else ""
        near = nearest(str(dtype), (*DTYPES, *_OTHER_DTYPES))
        raise ValueError(f"unknown dtype {reprlib.repr(dtype)}{near}; known: {', '.join(DTYPES)}{hint}")
    return found


def read_device(device: Any, argument: str = "device=") -> torch.device:
    """A device on which tensors can be allocated here.

    Args:
        device: Its name, index or `torch.device`.
        argument: How the error names the argument.

    Raises:
        ValueError: If it cannot be used. The error names it and the reason.
    """
    try:
        if isinstance(device, bool) or not isinstance(device, (str, int, torch.device)):
            raise RuntimeError(f"it is a {type(device).__name__}, not a name")
        found = torch.device(device)
        if found.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # an assertion fails in a torch without CUDA
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{argument}{_quoted(device)} cannot be used here ({reason}); cpu always can") from error
    return found


def complete(
    request: Request, family: Family, defaults: Mapping[str, Any], *, device: torch.device, output: str
) -> Request:
    """Check a request against a checkpoint, and fill in its steps, guidance, height and width.

    Args:
        request: The request.
        family: The checkpoint's networks.
        defaults: Arguments by name, for a request that leaves them to the checkpoint.
        device: Where the networks run.
        output: The form of the output.

    Raises:
        ValueError: If an argument has no effect on the checkpoint or does not fit it. It is named.
        NotEnoughMemory: If memory does not hold the call.
    """
    request = with_samples(request, family)
    if not request.prompts:
        raise ValueError("no prompt: give a string, or a list with at least one")
    if (needs := getattr(family, "needs", None)) is not None:
        raise ValueError(f"this checkpoint loads, but cannot be sampled yet: {needs}")
    request.refuse_idle(family.options, type(family).__name__)
    check_encoded(request, family)
    check_read(request, getattr(family, "reads", None), optional=picture_optional(family))
    request = sized_by_family(family, request)
    height, width = _frames(request, family) or request.height, request.width
    frames = request.num_frames
    if request.noise is not None:
        check_noise(request.noise, len(request.prompts), family)
        height, width = (side * family.vae.config.downscale for side in request.noise.shape[-2:])
        frames = noise_frames(request.noise, frames, family)
    height, width = read_size(height, width, family)
    shape = latent_shape(family, height, width, frames)
    require_memory_for_pictures(family, len(request.prompts), shape, device, output)
    request = replace(request, height=height, width=width, num_frames=read_frames(frames, family)).filled(**defaults)
    read_steps(request.steps)
    return request


def with_samples(request: Request, family: Family) -> Request:
    """The request, with an empty prompt for each sample if the family reads none."""
    return request if reads_prompts(family) else request.without_prompts()


def _frames(request: Request, family: Family) -> int | None:
    """Spectrogram frames, which are the height, of a sound of the requested seconds; None for a request without."""
    if request.seconds is None:
        return None
    if not isinstance(family, AudioFamily):
        raise ValueError(f"seconds={request.seconds} is a length of sound, and this checkpoint makes images")
    if request.height is not None:
        raise ValueError("seconds= and height= (in spectrogram frames) both give the length: leave one out")
    return family.frames(request.seconds)


def read_steps(steps: Any) -> int:
    """The number of steps.

    Raises:
        ValueError: If it is not a whole number of at least 1.
        NotEnoughMemory: If memory does not hold a grid of so many steps.
    """
    number: int = count(1)("steps", steps)
    require_memory_for_steps(number)
    return number


def read_output(output: str | None, family: Family) -> str:
    """The form of a call's output; None is the first of those that the checkpoint has."""
    known = _AUDIO_OUTPUTS if isinstance(family, AudioFamily) else _OUTPUTS
    if output is not None and (not isinstance(output, str) or output not in known):
        raise ValueError(f"unknown output {output!r}; known for this checkpoint: {', '.join(known)}")
    return output or known[0]


def read_size(height: int | None, width: int | None, family: Family) -> tuple[int, int]:
    """Height and width in pixels, of which None is the checkpoint's own.

    Raises:
        ValueError: If one of them is not a positive multiple of the pixels per token.
    """
    factor, sides = family.vae.config.downscale * family.patch, []
    for label, given, default in zip(("height", "width"), (height, width), family.default_size, strict=True):
        pixels = default if given is None else given
        if pixels < factor or pixels % factor:
            raise ValueError(f"{label}={pixels} is not a positive multiple of {factor}, the pixels per token")
        sides.append(pixels)
    return sides[0], sides[1]


def read_accelerator(request: Request) -> Accelerator | None:
    """The accelerator of a request, made from its name if it is given by one."""
    accelerator = request.accelerator
    if request.speedup is not None:
        return Auto(speedup=request.speedup)
    if isinstance(accelerator, str):
        return None if accelerator == PLAIN else make_accelerator(accelerator)
    return accelerator


def check_how(parallel: Any, observer: Any) -> None:
    """Check the arguments of these names.

    Raises:
        ValueError: If one is neither None nor of its type: a `Parallel`, or a function.
    """
    if observer is not None and (isinstance(observer, type) or not callable(observer)):
        raise ValueError(cannot_be_used("observer", observer, "a function of a Step"))
    if parallel is not None and not isinstance(parallel, Parallel):
        raise ValueError(cannot_be_used("parallel", parallel, "a Parallel"))


def latent_shape(
    family: Family, height: int | None = None, width: int | None = None, num_frames: int | None = None
) -> tuple[int, ...]:
    """Shape of the latents of a sample: (C, h, w) of a picture or sound, (C, T, h, w) of a video.

    Args:
        family: The checkpoint's networks.
        height: Height in pixels; None, here and below, is the checkpoint's own.
        width: Width in pixels.
        num_frames: Number of frames of a video.

    Raises:
        ValueError: If a number does not fit the checkpoint.
    """
    sides = [side // family.vae.config.downscale for side in read_size(height, width, family)]
    frames = read_frames(num_frames, family)
    if frames is None or not isinstance(family, VideoFamily):
        return (family.latent_channels, *sides)
    return (family.latent_channels, (frames - 1) // family.frames_per_latent + 1, *sides)


def start_noise(request: Request, family: Family) -> Tensor:
    """The start noise (B, C, h, w) of a complete request: its own, or drawn from its seeds. See `latent_shape`."""
    if request.noise is not None:
        return request.noise
    return initial_noise(latent_shape(family, *request.size, request.num_frames), request.seeds)


def initial_noise(shape: tuple[int, ...], seeds: Sequence[int]) -> Tensor:
    """Unit-normal noise (B, *shape), each sample drawn on the CPU from a generator of its own."""
    return torch.cat([torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def check_noise(noise: Any, samples: int, family: Family) -> None:
    """Check that start noise has the shape (B, C, h, w) for the samples and whole tokens, and finite values.

    That of videos is (B, C, T, h, w).
    """
    axes = "T, h, w" if isinstance(family, VideoFamily) else "h, w"
    if not isinstance(noise, Tensor):
        raise ValueError(cannot_be_used("noise", noise, f"a tensor (B, C, {axes})"))
    if not noise.is_floating_point():
        raise ValueError(f"noise is {noise.dtype}, expected unit-normal floats")
    channels, patch = family.latent_channels, family.patch
    whole = noise.dim() == 3 + axes.count(",") and not any(side < patch or side % patch for side in noise.shape[-2:])
    if not whole or noise.shape[:2] != (samples, channels):
        multiple = f" with h and w divisible by {patch}" if patch > 1 else ""
        raise ValueError(f"noise has shape {tuple(noise.shape)}, expected ({samples}, {channels}, {axes}){multiple}")
    if not bool(torch.isfinite(noise).all()):
        raise ValueError("noise holds NaN or infinity, expected unit-normal floats")


def _quoted(device: Any) -> str:
    return repr(str(device) if isinstance(device, torch.device) else device)
