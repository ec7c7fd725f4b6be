"""Leads back from pictures to noise, and from there to other pictures."""

from collections.abc import Sequence
from typing import Any

import torch

from sadaflow.solvers import Grid, Solver

from ..families import Request
from ..loading.mapped_weights import reads_mapped_weights
from .adapters import Adaptable
from .begin import begin
from .condition import read_condition, with_condition
from .control import Control
from .diffusers_names import refuses_unknown
from .inputs import complete, start_noise, with_samples
from .inversion import ITERATIONS, TOLERANCE, Inversion, inverted_request
from .output import Output
from .pictures import read_pictures


class Inverting(Adaptable):
    """A loaded checkpoint that inverts and edits pictures."""

    @refuses_unknown
    @reads_mapped_weights
    @torch.no_grad()
    def invert(
        self,
        image: Any,
        prompt: str | Sequence[str] = "",
        *,
        steps: int = 50,
        solver: str | Solver | None = "euler",
        grid: str | Grid | None = None,
        method: str | None = None,
        strength: float = 1.0,
        height: int | None = None,
        width: int | None = None,
        seed: Any = 0,
        control: Any = None,
        tolerance: float = TOLERANCE,
        iterations: int = ITERATIONS,
    ) -> Inversion:
        """Find the noise from which the checkpoint samples a picture, without guidance.

        Args:
            image: The picture, as in a call.
            prompt: What it shows: a prompt, or a sequence with one for each sample.
            steps: Number of steps.
            solver: Name of a solver, or a solver; "euler" is DDIM.
            grid: Name of a time grid, or a `Grid`.
            method: "exact" solves each step for its start, by a solver that draws no noise and combines no outputs of
                earlier steps; "ode" follows the ODE from data to noise; "edit-friendly" finds the noise that a
                stochastic solver would have drawn. None is the last for solvers that draw noise, else the first.
            strength: Fraction of the steps that are inverted, those of the least noise.
            height, width: Size in pixels; None is the picture's own.
            seed: Seed of the path of edit-friendly inversion.
            control: Images of the ControlNets.
            tolerance: Largest error of exact inversion, root mean square relative to the latents.
            iterations: Most iterations of a step of exact inversion.

        Returns:
            The noise, with the solver that leads back.

        Raises:
            ValueError: If an argument is invalid, before any work; or if exact inversion does not converge.
        """
        if image is None:
            raise ValueError("image=None is not a picture: give one to invert")
        if not 0 < tolerance < 1:
            raise ValueError(f"tolerance={tolerance} must lie between 0 and 1, as 1e-3 does")
        if iterations < 1:
            raise ValueError(f"iterations={iterations} must be at least 1")
        if strength == 0:
            raise ValueError("strength=0 inverts no step: give up to 1")
        request = Request(
            prompt, image=image, source_prompt=prompt, inversion=method, steps=steps, solver=solver, grid=grid,
            strength=strength, height=height, width=width, seed=seed, control=control, guidance=1.0,
        )  # fmt: skip
        pictures = read_pictures(with_samples(request, self.family), self.family)
        if pictures is None:
            raise ValueError("no prompt: give a string, or a list with at least one")
        request = complete(pictures.sized(request), self.family, self.defaults, device=self.device, output="latent")
        whole = self.whole_solver_for(request)
        condition = read_condition(request, self.family)
        part = self.part(whole, request)
        nets = Control.of(request, self.family, self.controlnets, condition is not None)
        with self.turn():
            noise = start_noise(request, self.family).to(self.device, torch.float32)
            begun = begin(pictures, request, self.family, whole, noise)
            begun = with_condition(begun, condition, self.family, self.device)
            found = inverted_request(self, request, part, begun, nets, tolerance, iterations)
        assert found is not None
        return Inversion(found.x, found.solver, found.stats)

    def edit(self, image: Any, prompt: str | Sequence[str], to: str | Sequence[str], **arguments: Any) -> Output:
        """Sample other pictures from the noise of given ones.

        Args:
            image: The picture.
            prompt: What it shows.
            to: What it is to show.
            arguments: Further arguments of a call, such as `solver`, `steps`, `strength`, `guidance` and `mask`.
        """
        return self(to, image=image, source_prompt=prompt, **arguments)  # type: ignore[operator]  # of Pipeline
