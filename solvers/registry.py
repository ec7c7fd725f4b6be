"""Registry of solvers by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .adams import AdamsBashforth
from .base import GridSolver
from .ddpm import DDPM
from .dpmpp import DPMpp
from .dpmpp_sde import DPMppSDE
from .er_sde import ERSDE
from .euler import Euler, EulerAncestral
from .exponential import DEIS, DPMSolver, ExponentialAdams
from .exponential_rk import ExponentialRungeKutta
from .gradient_estimation import GradientEstimation
from .grid import Grid
from .heunpp import HeunPP2
from .ipndm import IPNDM
from .kdpm2 import KDPM2
from .lcm import LCM
from .plms import PLMS
from .runge_kutta import RungeKutta
from .sa_solver import SASolver
from .singlestep import DPMppSinglestep
from .tcd import TCD
from .unipc import UniPC

_ALWAYS_DRAW: Final = (EulerAncestral, DDPM, LCM, TCD, ERSDE)


@dataclass(frozen=True)
class Entry:
    """A solver class with the options that a name stands for.

    Attributes:
        solver: the class.
        options: fields of the class that the name sets.
    """

    solver: type[GridSolver]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stochastic(self) -> bool:
        """Whether the solver draws noise with these options."""
        if issubclass(self.solver, _ALWAYS_DRAW):
            return True
        return any(self.options.get(share, getattr(self.solver, share, 0)) > 0 for share in ("eta", "tau"))


SOLVERS: Final[Mapping[str, Entry]] = {
    "euler": Entry(Euler),
    "ddim": Entry(Euler),
    "dpmpp1": Entry(DPMpp, {"solver_order": 1}),
    "dpmpp2m": Entry(DPMpp, {"solver_order": 2}),
    "dpmpp3m": Entry(DPMpp, {"solver_order": 3}),
    "dpmpp2s": Entry(DPMppSinglestep, {"solver_order": 2}),
    "dpmpp3s": Entry(DPMppSinglestep, {"solver_order": 3, "second_order": "heun"}),
    "unipc1": Entry(UniPC, {"solver_order": 1}),
    "unipc": Entry(UniPC, {"solver_order": 2}),
    "unipc3": Entry(UniPC, {"solver_order": 3}),
    "kdpm2": Entry(KDPM2),
    "heun": Entry(RungeKutta, {"method": "heun"}),
    "midpoint": Entry(RungeKutta, {"method": "midpoint"}),
    "rk4": Entry(RungeKutta, {"method": "rk4"}),
    "ab2": Entry(AdamsBashforth, {"solver_order": 2}),
    "ab3": Entry(AdamsBashforth, {"solver_order": 3}),
    "ab4": Entry(AdamsBashforth, {"solver_order": 4}),
    "lms": Entry(AdamsBashforth, {"solver_order": 4, "frame": None, "start_by": "lower-order", "last_by": "adams"}),
    "ipndm-v": Entry(AdamsBashforth, {"solver_order": 4, "frame": None, "start_by": "lower-order"}),
    "ipndm": Entry(IPNDM),
    "plms": Entry(PLMS),
    "pndm": Entry(PLMS),
    "dpm2m": Entry(DPMSolver, {"solver_order": 2}),
    "dpm3m": Entry(DPMSolver, {"solver_order": 3}),
    "deis": Entry(DEIS, {"solver_order": 2}),
    "deis3": Entry(DEIS, {"solver_order": 3}),
    "exp-ab2": Entry(ExponentialAdams, {"solver_order": 2}),
    "exp-ab3": Entry(ExponentialAdams, {"solver_order": 3}),
    "res_2m": Entry(ExponentialAdams, {"solver_order": 2}),
    "res_3m": Entry(ExponentialAdams, {"solver_order": 3}),
    "res_2s": Entry(ExponentialRungeKutta, {"method": "res_2s"}),
    "res_3s": Entry(ExponentialRungeKutta, {"method": "res_3s"}),
    "gradient_estimation": Entry(GradientEstimation),
    "heunpp2": Entry(HeunPP2),
    "euler-ancestral": Entry(EulerAncestral),
    "ddpm": Entry(DDPM),
    "lcm": Entry(LCM),
    "tcd": Entry(TCD),
    "kdpm2-ancestral": Entry(KDPM2, {"eta": 1.0}),
    "sa-solver": Entry(SASolver, {"tau": 1.0}),
    "dpmpp-sde": Entry(DPMppSDE, {"eta": 1.0}),
    "dpmpp2s-sde": Entry(DPMppSinglestep, {"solver_order": 2, "eta": 1.0}),
    "dpmpp1-sde": Entry(DPMpp, {"solver_order": 1, "eta": 1.0}),
    "dpmpp2m-sde": Entry(DPMpp, {"solver_order": 2, "eta": 1.0}),
    "dpmpp3m-sde": Entry(DPMpp, {"solver_order": 3, "eta": 1.0}),
    "er_sde": Entry(ERSDE),
    "seeds_2": Entry(ExponentialRungeKutta, {"method": "seeds_2", "eta": 1.0}),
    "seeds_3": Entry(ExponentialRungeKutta, {"method": "seeds_3", "eta": 1.0}),
}

def known_solver(name: str) -> str:
    """Returns `name`; raises ValueError, listing the known names, if there is no such solver."""
    if name not in SOLVERS:
        raise ValueError(f"unknown solver {name!r}; known are {', '.join(SOLVERS)}")
    return name


def draws_noise(name: str) -> bool:
    """Returns whether the solver called `name` draws noise with its registered options, and so needs a noise source."""
    return SOLVERS[known_solver(name)].stochastic


def make_solver(name: str, grid: Grid, **options: Any) -> GridSolver:
    """Constructs the solver called `name` over `grid`.

    Args:
        name: one of `SOLVERS`.
        grid: the points that the trajectory visits.
        **options: fields of the solver's class; they override those of the name.

    Raises:
        ValueError: if the name or the value of an option is unknown.
    """
    entry = SOLVERS[known_solver(name)]
    return entry.solver(grid, **{**entry.options, **options})
