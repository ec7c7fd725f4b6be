"""Arguments of a pipeline's call, read for a kind of checkpoint; ValueError for what does not fit, before any work."""

import reprlib
from collections.abc import Iterable, Mapping, Sequence, Set
from types import MappingProxyType
from typing import Any, Final, SupportsIndex

import numpy as np
import torch
from torch import Tensor

from sadaflow.solvers import Grid

from ..accelerators import Accelerator, make_accelerator
from ..families import AudioFamily, Family, Negative
from ..families.values import listed, whole_number
from ..parallel import Parallel
from .memory_need import require_memory_for_steps

DTYPES: Final[Mapping[str, torch.dtype]] = MappingProxyType(
    {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
)
_OTHER_DTYPES: Final = {
    "fp32": torch.float32, "float": torch.float32, "fp16": torch.float16, "half": torch.float16,
    "bf16": torch.bfloat16, "float64": torch.float64, "double": torch.float64,
}  # fmt: skip
_COMPUTING: Final = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
Seed = SupportsIndex | Sequence[SupportsIndex]
"""A whole number of any integer type, or one for each sample."""
_OUTPUTS = ("pil", "tensor", "latent")
_AUDIO_OUTPUTS = ("audio", "tensor", "latent")
_LARGEST: Final = 2**40  # pixels and steps, well beyond what any memory holds
_SEEDS: Final = (-(2**63), 2**64 - 1)  # what torch's generators take


def read_dtype(dtype: Any) -> torch.dtype:
    """The dtype that networks compute in: a floating-point `torch.dtype`, or its name ("float16", "fp16",
    "torch.float16"). Raises ValueError for any other."""
    found = dtype
    if isinstance(dtype, str):
        name = dtype.lower().removeprefix("torch.")
        found = DTYPES.get(name, _OTHER_DTYPES.get(name))
    if found not in _COMPUTING:
        hint = '; eight bits are quantize="int8" or "fp8"' if "8" in str(dtype) else ""
        raise ValueError(f"unknown dtype {reprlib.repr(dtype)}; known: {', '.join(DTYPES)}{hint}")
    return found


def read_device(device: Any, argument: str = "device=") -> torch.device:
    """`device` as a `torch.device` that can be used here. Raises ValueError naming it and the reason."""
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


def read_prompts(prompt: Any) -> list[str]:
    """The prompts of a call, one for each sample."""
    given = [prompt] if isinstance(prompt, str) else _sequence(prompt)
    if given is None:
        raise ValueError(f"prompt={reprlib.repr(prompt)} is not text: give a string, or a list of strings")
    if not given:
        raise ValueError("no prompt: give a string, or a list with at least one")
    return [_text("prompt" if len(given) == 1 else f"prompt[{i}]", one) for i, one in enumerate(given)]


def read_negatives(negative: Any, samples: int) -> Negative:
    """The negative prompt of a call: None or a string for all samples, or a list with a string or None for each."""
    if negative is None or isinstance(negative, str):
        return negative if negative is None else _text("negative_prompt", negative)
    given = _sequence(negative)
    if given is None:
        raise ValueError(
            f"negative_prompt={reprlib.repr(negative)} is not text: give a string for all prompts, or a list with one "
            "for each"
        )
    if len(given) != samples:
        raise ValueError(f"{len(given)} negative prompts for {samples} prompts: give one for all, or one for each")
    return tuple(None if one is None else _text(f"negative_prompt[{i}]", one) for i, one in enumerate(given))


def read_steps(steps: Any) -> int:
    """The number of steps. Raises ValueError for none, and for a grid that memory does not hold."""
    number = whole_number("steps", steps, most=_LARGEST)
    if number < 1:
        raise ValueError(f"steps must be at least 1, got {number}")
    require_memory_for_steps(number)
    return number


def read_output(output: str | None, family: Family) -> str:
    known = _AUDIO_OUTPUTS if isinstance(family, AudioFamily) else _OUTPUTS
    if output is not None and (not isinstance(output, str) or output not in known):
        raise ValueError(f"unknown output {output!r}; known for this checkpoint: {', '.join(known)}")
    return output or known[0]


def read_seeds(seed: Any, samples: int) -> list[int]:
    """A seed for each sample, from one for all or a list, tuple, array or tensor with one for each."""
    several = listed(seed)
    given = [seed] * samples if several is None else several
    if len(given) != samples:
        raise ValueError(f"{len(given)} seeds for {samples} prompts: give one seed, or one per prompt")
    return [whole_number("seed" if several is None else f"seed[{i}]", one, *_SEEDS) for i, one in enumerate(given)]


def read_size(height: Any, width: Any, seconds: float | None, family: Family) -> tuple[int | None, int | None]:
    """Height and width in pixels, None for the checkpoint's own; the height of a sound holds its `seconds`."""
    height = None if height is None else whole_number("height", height, most=_LARGEST)
    width = None if width is None else whole_number("width", width, most=_LARGEST)
    if seconds is None:
        return height, width
    if not isinstance(family, AudioFamily):
        raise ValueError(f"seconds={seconds} is a length of sound, and this checkpoint makes images")
    if height is not None:
        raise ValueError("seconds= and height= (in spectrogram frames) both give the length: leave one out")
    return family.frames(seconds), width


def read_accelerator(accelerator: Any) -> Accelerator | None:
    """An accelerator, or the one of a name."""
    if isinstance(accelerator, str):
        return make_accelerator(accelerator)
    if accelerator is not None and (isinstance(accelerator, type) or not callable(getattr(accelerator, "begin", None))):
        raise ValueError(_instead("accelerator", accelerator, 'a name ("sada") or settings (SADA())'))
    return accelerator


def check_objects(solver: Any, grid: Any, parallel: Any) -> None:
    """Raise ValueError for a solver, grid or `parallel` that is neither a name nor an object of its kind."""
    named = solver is None or isinstance(solver, str)
    if not named and (isinstance(solver, type) or not hasattr(solver, "nodes")):
        raise ValueError(_instead("solver", solver, 'a name ("euler") or a solver (pipe.solver("euler", 20))'))
    if grid is not None and not isinstance(grid, (str, Grid)):
        raise ValueError(_instead("grid", grid, 'a name ("karras") or a Grid'))
    if grid is not None and not named:
        raise ValueError(f"grid={grid!r} with a solver, which has its own grid: give the solver's name, or no grid")
    if parallel is not None and not isinstance(parallel, Parallel):
        raise ValueError(_instead("parallel", parallel, "a Parallel"))


def latent_shape(family: Family, height: int | None, width: int | None) -> tuple[int, int, int]:
    """Shape (C, h, w) of the latents of a picture in pixels; None is the checkpoint's own size."""
    factor, sides = family.vae.config.downscale * family.patch, []
    for label, asked, default in zip(("height", "width"), (height, width), family.default_size, strict=True):
        pixels = default if asked is None else asked
        if pixels < factor or pixels % factor:
            raise ValueError(f"{label}={pixels} is not a positive multiple of {factor}, the pixels per token")
        sides.append(pixels // family.vae.config.downscale)
    return (family.latent_channels, sides[0], sides[1])


def initial_noise(shape: tuple[int, int, int], seeds: Sequence[int]) -> Tensor:
    """Unit-normal noise (B, C, h, w), each sample drawn on the CPU from a generator of its own."""
    return torch.cat([torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def check_noise(noise: Any, samples: int, family: Family) -> Tensor:
    """`noise`, if it is (B, C, h, w) for as many samples and whole tokens, of finite floats."""
    if not isinstance(noise, Tensor):
        raise ValueError(_instead("noise", noise, "a tensor (B, C, h, w)"))
    if not noise.is_floating_point():
        raise ValueError(f"noise is {noise.dtype}, expected unit-normal floats")
    channels, patch = family.latent_channels, family.patch
    whole = noise.dim() == 4 and not any(side < patch or side % patch for side in noise.shape[2:])
    if not whole or noise.shape[:2] != (samples, channels):
        multiple = f" with h and w divisible by {patch}" if patch > 1 else ""
        raise ValueError(f"noise has shape {tuple(noise.shape)}, expected ({samples}, {channels}, h, w){multiple}")
    if not bool(torch.isfinite(noise).all()):
        raise ValueError("noise holds NaN or infinity, expected unit-normal floats")
    return noise


def _sequence(value: Any) -> list[Any] | None:
    """The entries of anything that has entries in an order; None for what has none."""
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return list(value.tolist())
    if isinstance(value, (bytes, bytearray, Mapping, Set, np.ndarray, Tensor)) or not isinstance(value, Iterable):
        return None
    return list(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name}={reprlib.repr(value)} is not text: give a string")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"{name}={reprlib.repr(value)} holds half of a character (a lone surrogate)")
    return str(value)


def _instead(name: str, value: Any, expected: str) -> str:
    found = f"the class {value.__name__}" if isinstance(value, type) else reprlib.repr(value)
    return f"{name}={found} cannot be used: give {expected}"


def _quoted(device: Any) -> str:
    return repr(str(device) if isinstance(device, torch.device) else device)
