"""Measures sampling: both sides and our accelerators in turn, after checking that both sides do the same work."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ...accelerators import Accelerator
from ..run.uncounted import Uncounted
from .rounds import Round, interleaved
from .sides import OURS, THEIRS, Ours, Ran, Side
from .task import Task

Record = dict[str, Any]


def accelerated(name: str) -> str:
    """Returns the name of an accelerated setting in the rounds."""
    return f"{OURS} {name}"


def measure_sampling(
    ours: Ours,
    theirs: Side | None,
    task: Task,
    accelerators: Mapping[str, Accelerator],
    rounds: int,
    advance: Callable[[int], None],
    *,
    latent: bool = False,
) -> Record:
    """Measures a task.

    Before the rounds everything runs twice, because libraries and caches allocate memory that they keep.

    Args:
        ours: The checkpoint in this library.
        theirs: The checkpoint in Diffusers, if it is compared.
        task: What is sampled.
        accelerators: Accelerators to measure, by name.
        rounds: Number of rounds.
        advance: Called with 1 after every run.
        latent: Whether the decoder is left out of the rounds.

    Returns:
        "rounds": the numbers of every setting in each round. "difference": the largest difference of the two sides'
        final latents. "latents": the largest absolute value of the latents. "modes": the modes of each accelerator's
        samples.
    """
    found: Record = {"difference": None, "latents": None, "modes": {}}
    plain = ours.run(task, latent=True)
    if theirs is not None:
        found["difference"], found["latents"] = difference(plain.latents, theirs.run(task, latent=True).latents)
    settings: dict[str, Callable[[], Mapping[str, float]]] = {OURS: lambda: _numbers(ours.run(task, latent=latent))}
    for name, accelerator in accelerators.items():
        counted = ours.run(task, latent=True, accelerator=accelerator)
        found["modes"][name] = [list(modes) for modes in counted.modes]
        settings[accelerated(name)] = _timed(ours, task, accelerator, counted, latent)
    if theirs is not None:
        settings[THEIRS] = lambda: _numbers(theirs.run(task, latent=latent))
    for act in settings.values():
        act()
        advance(1)
    made: list[Round] = interleaved(settings, rounds, advance)
    return {**found, "rounds": made}


def difference(ours: Tensor | None, theirs: Tensor | None) -> tuple[float, float]:
    """Compares the latents of both sides.

    Returns:
        The largest absolute difference, and the largest absolute value of Diffusers' latents.

    Raises:
        ValueError: If shapes differ.
    """
    assert ours is not None and theirs is not None
    if ours.shape != theirs.shape:
        raise ValueError(f"latents of {OURS} are {tuple(ours.shape)}, of {THEIRS} {tuple(theirs.shape)}")
    theirs = theirs.to(ours)
    return float((ours - theirs).abs().max()), float(theirs.abs().max())


def _timed(
    ours: Ours, task: Task, accelerator: Accelerator, counted: Ran, latent: bool
) -> Callable[[], Mapping[str, float]]:
    """Returns a timed run. The cost of cached evaluations is taken from `counted`, because counting takes time."""
    uncounted = Uncounted(accelerator)

    def run() -> Mapping[str, float]:
        numbers = dict(_numbers(ours.run(task, latent=latent, accelerator=uncounted)))
        return numbers | ({} if counted.nfe is None else {"nfe": counted.nfe})

    return run


def _numbers(ran: Ran) -> Mapping[str, float]:
    numbers = {"seconds": ran.seconds, "network": ran.network, "loop": ran.loop, "nfe": ran.nfe}
    return {name: value for name, value in numbers.items() if value is not None}
