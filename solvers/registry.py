"""Registry of solvers by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from .adams import AdamsBashforth
from .base import Solver
from .chosen import Choice, require_maker
from .ddim import DDIM
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
from .names.registry import Kind, Registry
from .names.settings import known_settings
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
        solver: the class, or a function that makes a solver over a grid.
        options: fields of the class that the name sets.
    """

    solver: Callable[..., Solver]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stochastic(self) -> bool:
        """Whether the solver draws noise with these options."""
        if isinstance(self.solver, type) and issubclass(self.solver, _ALWAYS_DRAW):
            return True
        shares = [self.options.get(share, getattr(self.solver, share, None)) for share in ("eta", "tau")]
        numbers = [share for share in shares if isinstance(share, (int, float))]
        if numbers or self.solver.__module__.startswith("sadaflow."):
            return any(share > 0 for share in numbers)
        declared = getattr(self.solver, "stochastic", None)
        return declared if isinstance(declared, bool) else "noise" in known_settings(self.solver, after=1).kinds


_BUILT_IN: Final[Mapping[str, Entry]] = {
    "euler": Entry(Euler),
    "ddim": Entry(DDIM),
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


def _entry_of(label: str, made: Any) -> Entry:
    """The entry of a class or function that makes solvers; raises ValueError, beginning with `label`, if it cannot."""
    if isinstance(made, Entry):
        return made
    require_maker(label, made)
    return Entry(made)


REGISTRY: Final = Registry(Kind("solver", "sadaflow.solvers", _entry_of), _BUILT_IN)
"""All solvers by name; changed by `register_solver` alone."""

SOLVERS: Final[Mapping[str, Entry]] = MappingProxyType(REGISTRY)
"""Read-only view of all solvers by name: built in, registered, and those of installed packages."""


def register_solver(name: str, make: Any, *, replace: bool = False) -> None:
    """Makes a solver known by name, wherever the name of a solver is taken.

    Args:
        name: Letters, digits, ".", "-" and "_", beginning with a letter.
        make: A class, or a function, that makes a `Solver`: `make(grid, **settings)`. It is given a `NoiseSource` as
            `noise` if it has a parameter of that name, unless its attribute `stochastic` is False.
        replace: Whether another solver that was registered under the name is replaced.

    Raises:
        ValueError: if the name is taken or malformed, or if `make` cannot make a solver.
    """
    REGISTRY.register(name, make, replace=replace)


def choose_solver(text: str) -> Choice:
    """Reads a solver's name with settings: "dpmpp2m", "dpmpp2m-sde eta=0.5", "my.module:MySolver".

    Raises:
        ValueError: if the name is unknown, or a setting is unknown or does not fit.
    """
    return Choice.read(text, REGISTRY)


def known_solver(name: str) -> str:
    """Returns `name`; raises ValueError, listing the known names, if there is no such solver."""
    choose_solver(name)
    return name


def draws_noise(name: str) -> bool:
    """Returns whether the solver called `name` draws noise with its settings, and so needs a noise source."""
    return choose_solver(name).entry.stochastic


def make_solver(name: str, grid: Grid, **options: Any) -> Solver:
    """Constructs the solver called `name` over `grid`.

    Args:
        name: one of `SOLVERS`, or `module:Class`, with settings if wanted: "dpmpp2m-sde eta=0.5".
        grid: the points that the trajectory visits.
        **options: fields of the solver's class; they override those that the name stands for.

    Raises:
        ValueError: if the name, an option or its value is unknown, or the class cannot make a solver.
    """
    return choose_solver(name).make(grid, options)
