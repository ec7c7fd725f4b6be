"""Finds the noise from which a checkpoint samples a given picture."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, Self, cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sadaflow.solvers import SeededNoise, Solver
from sadaflow.solvers.inversion import rising
from sadaflow.solvers.linear import NoisySolver
from sadaflow.solvers.names.config import from_config, to_config

from ..families import Request
from ..files.atomic import write_file
from ..sampling.denoiser import GuidedDenoiser
from ..sampling.inversion.edit_friendly import ReplayedNoise, invert_edit_friendly
from ..sampling.inversion.exact import invert_exactly
from ..sampling.inversion.results import InversionStats, Inverted
from ..sampling.inversion.rising import invert_by_ode
from .begin import Beginning
from .control import Control

TOLERANCE: Final = 1e-3
"""Largest error of the way there and back of exact inversion."""

ITERATIONS: Final = 100
"""Most iterations of a step."""

SOLVER: Final = "euler"
"""Solver of inversions and edits that name none: DDIM, and Euler's method on flow models."""

_FORMAT: Final = "1"


class Encodes(Protocol):
    """Encodes requests as denoisers, as `Sampler` does."""

    def denoiser(
        self, solver: Any, request: Request, control: Control | None = None, beside: Tensor | None = None
    ) -> GuidedDenoiser:
        """The denoiser of a request at the nodes of a solver."""
        ...


@dataclass(frozen=True)
class Inversion:
    """The noise of pictures, and the solver that leads back: `pipe(prompt, noise=found.noise, solver=found.solver)`.

    Attributes:
        noise: States at the first point of the solver's grid, (B, C, h, w), about unit normal.
        solver: The solver, on a grid that ends at the least noise of training. A stochastic one draws the noise found.
        stats: Cost and accuracy.
    """

    noise: Tensor
    solver: Solver
    stats: InversionStats

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write noise and solver to a safetensors file.

        Raises:
            FileExistsError: If the file exists and is not to be overwritten.
        """
        drawn = getattr(self.solver, "noise", None)
        tensors = {"noise": self.noise.cpu().contiguous()}
        if isinstance(drawn, ReplayedNoise):
            tensors["drawn"] = drawn.noise.cpu().contiguous()
        config = to_config(without_replayed_noise(self.solver))
        record = {"format": _FORMAT, "solver": config, "stats": vars(self.stats)}
        write_file(Path(path), save(tensors, {"sadaflow_inversion": json.dumps(record)}), overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file that `save` wrote.

        Raises:
            ValueError: If it is another file.
            FileNotFoundError: If there is no such file.
        """
        name = os.fspath(path)
        if not os.path.isfile(name):
            raise FileNotFoundError(f"the noise file '{name}' does not exist")
        try:
            with safe_open(name, "pt") as file:
                record = json.loads((file.metadata() or {})["sadaflow_inversion"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it has no iterator
            noise, solver = tensors["noise"], from_config(record["solver"])
            stats = InversionStats(**record["stats"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"'{name}' is not a file that --invert or Inversion.save wrote: {error}") from error
        if "drawn" in tensors:
            solver = replace(cast(Any, solver), noise=ReplayedNoise(tensors["drawn"]))
        return cls(noise, cast(Solver, solver), stats)


def inverted_request(
    pipe: Encodes,
    request: Request,
    solver: Any,
    begun: Beginning,
    control: Control | None,
    tolerance: float = TOLERANCE,
    iterations: int = ITERATIONS,
) -> Inverted | None:
    """The noise of the picture of a complete request with a source prompt; None for a request without.

    Args:
        pipe: The checkpoint.
        request: The request.
        solver: The solver, on the part of its grid that the request takes.
        begun: The encoded picture, and what the network reads beside the latents.
        control: Images of the ControlNets.
        tolerance: See `invert_exactly`.
        iterations: See `invert_exactly`.

    Raises:
        ValueError: If the method does not fit the solver, or does not converge.
    """
    if request.source_prompt is None or begun.kept is None:
        return None
    prompts = [text or "" for text in request.sources]
    plain = replace(request.of_text(""), source_prompt=None, inversion=None, negative_prompt=None)
    unguided = replace(plain, guidance=1.0, true_guidance=1.0, guidance_rescale=0.0, guidance_interval=None)
    source = replace(unguided, prompt=prompts)
    method = request.inversion or ("edit-friendly" if draws(solver) else "exact")
    if (method == "edit-friendly") != draws(solver):
        fitting = "'euler-ancestral' or 'dpmpp2m-sde'" if method == "edit-friendly" else "'euler' or 'heun'"
        does = "draws no noise" if method == "edit-friendly" else "draws noise"
        raise ValueError(f"inversion={method!r} does not fit {type(solver).__name__}, which {does}: use {fitting}")
    x = begun.kept.expand(len(request.prompts), -1, -1, -1)
    denoise = pipe.denoiser(solver, source, control, begun.beside)
    if method == "edit-friendly":
        return invert_edit_friendly(solver, denoise, x, SeededNoise(tuple(request.seeds)))
    if method == "ode":
        up = rising(solver)
        return invert_by_ode(solver, denoise, pipe.denoiser(up, source, control, begun.beside), x)
    return invert_exactly(solver, denoise, x, tolerance, iterations)


def draws(solver: Solver) -> bool:
    """Whether a solver draws noise."""
    if isinstance(solver, NoisySolver):
        return any(update.noise != 0 for update in solver.updates)
    return getattr(solver, "noise", None) is not None


def without_replayed_noise(solver: Any) -> Any:
    """The solver without noise that inversion found, which is too large for a record."""
    return replace(solver, noise=None) if isinstance(getattr(solver, "noise", None), ReplayedNoise) else solver


def refuse_parallel(request: Request) -> None:
    """Raise ValueError if a request that several processes share is to be inverted."""
    if request.source_prompt is not None:
        raise ValueError("source_prompt= inverts on one device: leave out parallel=")
