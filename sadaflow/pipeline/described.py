"""What is shown of a loaded checkpoint in a notebook or a terminal."""

from .sampler import Sampler


def described(pipe: Sampler) -> list[tuple[str, str]]:
    """Names and values: what was loaded, where it computes, and the settings of a call that names none."""
    family = pipe.family
    weights = sum(weight.numel() for network in family.networks.values() for weight in network.parameters())
    lines = [
        ("name", pipe.name),
        ("family", type(family).__name__),
        ("networks", " + ".join(family.networks)),
        ("parameters", f"{weights / 1e6:.4g} M"),
        ("dtype", str(pipe.dtype).removeprefix("torch.")),
        ("device", str(pipe.device)),
        ("prediction", str(pipe.prediction)),
        ("scheduler", str(pipe.scheduler_config.get("_class_name", "none"))),
        ("steps", str(pipe.defaults["steps"])),
        ("guidance", f"{pipe.default_guidance:g}"),
    ]
    return lines if not pipe.controlnets else [*lines, ("controlnets", str(pipe.controlnets))]
