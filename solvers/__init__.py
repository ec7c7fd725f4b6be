"""Noise schedules, grids and solvers of the probability-flow ODE: pure numerics, no network."""

if not __name__.startswith("sadaflow."):
    raise ImportError("import this package as 'sadaflow.solvers'")

from .adams import AdamsBashforth
from .adaptive import Adaptive, AdaptiveRun
from .base import GridSolver, Solver, State
from .betas import BETA_SCHEDULES, make_betas, zero_terminal_snr
from .ddim import DDIM
from .ddpm import DDPM
from .dpmpp import DPMpp
from .dpmpp_sde import DPMppSDE
from .er_sde import ERSDE
from .euler import Euler, EulerAncestral
from .exact import Gaussian, GaussianMixture
from .exponential import DEIS, DPMSolver, ExponentialAdams
from .exponential_rk import ExponentialRungeKutta
from .gradient_estimation import GradientEstimation
from .grid import Grid, Node, Point
from .heunpp import HeunPP2
from .ipndm import IPNDM
from .kdpm2 import KDPM2
from .lcm import LCM
from .linear import LinearSolver, NoisySolver, Update
from .names.config import from_config, to_config
from .noise import BrownianNoise, NoiseSource, SeededNoise
from .part import Ended, from_point, up_to_point
from .plms import PLMS
from .polynomials import adams_weights, exponential_weights, lagrange_weights
from .prediction import PREDICTIONS, Preconditioned, Prediction, from_x0, input_scale, to_x0
from .reference import reference_solution
from .registry import SOLVERS, draws_noise, make_solver, register_solver
from .runge_kutta import Churn, RungeKutta
from .sa_solver import SASolver
from .schedule import EDM, CosineVP, RectifiedFlow, Schedule
from .scheduler_config.check import check_scheduler_config
from .scheduler_config.config import SolverSetup, from_scheduler_config, read_schedule
from .singlestep import DPMppSinglestep
from .tcd import TCD
from .unipc import UniPC
from .vp_discrete import VPDiscrete

__all__ = [
    "BETA_SCHEDULES",
    "DDIM",
    "DDPM",
    "DEIS",
    "EDM",
    "Ended",
    "ERSDE",
    "IPNDM",
    "KDPM2",
    "LCM",
    "PLMS",
    "PREDICTIONS",
    "SOLVERS",
    "TCD",
    "AdamsBashforth",
    "Adaptive",
    "AdaptiveRun",
    "BrownianNoise",
    "Churn",
    "CosineVP",
    "DPMSolver",
    "DPMpp",
    "DPMppSDE",
    "DPMppSinglestep",
    "Euler",
    "EulerAncestral",
    "ExponentialAdams",
    "ExponentialRungeKutta",
    "Gaussian",
    "GaussianMixture",
    "GradientEstimation",
    "Grid",
    "GridSolver",
    "HeunPP2",
    "LinearSolver",
    "Node",
    "NoiseSource",
    "NoisySolver",
    "Point",
    "Preconditioned",
    "Prediction",
    "RectifiedFlow",
    "RungeKutta",
    "SASolver",
    "Schedule",
    "SeededNoise",
    "Solver",
    "SolverSetup",
    "State",
    "UniPC",
    "Update",
    "VPDiscrete",
    "adams_weights",
    "check_scheduler_config",
    "draws_noise",
    "exponential_weights",
    "from_config",
    "from_point",
    "from_scheduler_config",
    "from_x0",
    "input_scale",
    "lagrange_weights",
    "make_betas",
    "make_solver",
    "read_schedule",
    "reference_solution",
    "register_solver",
    "to_config",
    "to_x0",
    "up_to_point",
    "zero_terminal_snr",
]
