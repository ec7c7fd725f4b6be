"""Scheduler classes of the Hub that have no sampler here: of some the noise levels are read, of others nothing is."""

from dataclasses import replace
from typing import Any, Final

from .classes import DDIM, DPM_MULTISTEP
from .classes_flow import FLOW_MATCH_EULER
from .classes_stochastic import COGVIDEOX_DDIM, DDPM
from .fields import SchedulerClass

_INVERSION: Final = "it goes from a picture to its noise, and is made for inversion, not for sampling"


def _read_as(model: SchedulerClass, name: str, reason: str, **changes: Any) -> SchedulerClass:
    """A class whose noise levels are read as those of `model`; fields of its own sampler are not looked at."""
    return replace(model, name=name, no_sampler=reason, fixed={}, required=(), inherited={}, **changes)


# Class name -> how its noise levels are read (the class they are read as, and what differs), and why that is all.
BORROWED_CLASSES: Final = (
    _read_as(
        DDIM,
        "DDIMInverseScheduler",
        _INVERSION,
        unused={"set_alpha_to_zero": "where the inversion starts; sampling does not"},
    ),
    _read_as(DPM_MULTISTEP, "DPMSolverMultistepInverseScheduler", _INVERSION),
    _read_as(
        DDPM,
        "RePaintScheduler",
        "every step needs the picture to paint into, and its mask",
        unused={"eta": "it belongs to RePaint's own step"},
    ),
    _read_as(
        DDPM,
        "UnCLIPScheduler",
        "it samples image embeddings with a variance that the network predicts",
        defaults={**DDPM.defaults, "beta_schedule": "squaredcos_cap_v2"},
    ),
    _read_as(COGVIDEOX_DDIM, "CogVideoXDPMScheduler", "its step, with two kinds of noise, is not among the solvers"),
    _read_as(
        FLOW_MATCH_EULER,
        "LTXEulerAncestralRFScheduler",
        "its ancestral step on flow time is not among the solvers",
        unused={"eta": "it belongs to that step", "s_noise": "it belongs to that step"},
    ),
)

# Class name -> why not even its noise levels can be read.
NO_SCHEDULE: Final = {
    "AmusedScheduler": "it unmasks discrete tokens",
    "BlockRefinementScheduler": "it refines discrete tokens",
    "CMStochasticIterativeScheduler": "its networks take and give scaled inputs of their own (consistency models)",
    "CosineDPMSolverMultistepScheduler": "its noise levels are angles in place of a noise table",
    "DDPMWuerstchenScheduler": "its noise levels are a continuous cosine in place of a noise table",
    "DiscreteDDIMScheduler": "it samples discrete tokens",
    "EntropyBoundScheduler": "it samples discrete tokens",
    "FlowMapEulerDiscreteScheduler": "its networks are told two times, where they are and where to go",
    "HeliosDMDScheduler": "its flow time runs in stages of growing size",
    "HeliosScheduler": "its flow time runs in stages of growing size",
    "KarrasVeScheduler": "its networks take noise that grows without bound, and are told its logarithm",
    "MiniMaxH3Scheduler": "its networks predict the flow towards data, and are told 1 - t",
    "PiflowScheduler": "its networks predict a policy for a part of the trajectory, not a velocity",
    "RFD4ProteinaScheduler": "it samples proteins, coordinates and latents at once",
    "SCMScheduler": "its networks predict in angles (TrigFlow)",
    "ScoreSdeVeScheduler": "its networks predict scores of noise that grows without bound (NCSN)",
    "VQDiffusionScheduler": "it samples discrete tokens",
}
