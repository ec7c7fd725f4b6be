"""Scheduler classes of the Hub whose sampler is not supported, with what can be read of their noise levels."""

from dataclasses import replace
from typing import Any, Final

from .classes import DDIM, DPM_MULTISTEP
from .classes_flow import FLOW_MATCH_EULER
from .classes_stochastic import COGVIDEOX_DDIM, DDPM
from .fields import SchedulerClass

_INVERSION: Final = "it inverts images to noise and does not sample"


def _read_as(model: SchedulerClass, name: str, reason: str, **changes: Any) -> SchedulerClass:
    """Returns a class whose noise levels are read as those of `model`; fields of its own sampler are ignored."""
    return replace(model, name=name, no_sampler=reason, fixed={}, required=(), inherited={}, **changes)


# The class whose noise levels are read, what differs, and why the sampler is not supported.
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
        "every step needs the image to inpaint and its mask",
        unused={"eta": "it belongs to RePaint's own step"},
    ),
    _read_as(
        DDPM,
        "UnCLIPScheduler",
        "it samples image embeddings with a variance predicted by the network",
        defaults={**DDPM.defaults, "beta_schedule": "squaredcos_cap_v2"},
    ),
    _read_as(COGVIDEOX_DDIM, "CogVideoXDPMScheduler", "its step, which adds two noise terms, is not implemented"),
    _read_as(
        FLOW_MATCH_EULER,
        "LTXEulerAncestralRFScheduler",
        "its ancestral step on flow time is not implemented",
        unused={"eta": "it belongs to that step", "s_noise": "it belongs to that step"},
    ),
)

# Class name -> why its noise levels cannot be read.
NO_SCHEDULE: Final = {
    "AmusedScheduler": "it unmasks discrete tokens",
    "BlockRefinementScheduler": "it refines discrete tokens",
    "CMStochasticIterativeScheduler": "its networks scale inputs and outputs differently (consistency models)",
    "CosineDPMSolverMultistepScheduler": "its noise levels are angles, not a noise table",
    "DDPMWuerstchenScheduler": "its noise levels are a continuous cosine, not a noise table",
    "DiscreteDDIMScheduler": "it samples discrete tokens",
    "EntropyBoundScheduler": "it samples discrete tokens",
    "FlowMapEulerDiscreteScheduler": "its networks are conditioned on current and target time",
    "HeliosDMDScheduler": "its flow time runs in stages of growing size",
    "HeliosScheduler": "its flow time runs in stages of growing size",
    "KarrasVeScheduler": "its networks are conditioned on the logarithm of unbounded noise levels",
    "MiniMaxH3Scheduler": "its networks predict the flow towards data and are conditioned on 1 - t",
    "PiflowScheduler": "its networks predict a policy for part of the trajectory, not a velocity",
    "RFD4ProteinaScheduler": "it samples coordinates and latents of proteins jointly",
    "SCMScheduler": "its networks predict in angles (TrigFlow)",
    "ScoreSdeVeScheduler": "its networks predict scores at unbounded noise levels (NCSN)",
    "VQDiffusionScheduler": "it samples discrete tokens",
}
