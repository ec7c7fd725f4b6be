"""Runs declare optional methods by defining them; wrappers and objects of other classes keep what they can do."""

from dataclasses import dataclass
from typing import Any, Final

import pytest
import torch

from sadaflow import Pipeline, Sampled, sample
from sadaflow.accelerators import Accelerator, Capabilities, ForwardingRun, PlainRun, Run, make_accelerator
from sadaflow.accelerators.caching.base import check_fit
from sadaflow.accelerators.forwarding import begin_run, innermost
from sadaflow.bench.run.uncounted import Uncounted
from sadaflow.checks.networks import TRANSFORMER, UNET, Seamed
from sadaflow.checks.problems import Modes
from sadaflow.checks.runs import solver_of
from sadaflow.solvers import Solver

SHAPE: Final = torch.Size((2, 2, 6, 6))
REQUIRED: Final = ("plan", "estimate", "seam", "revise", "observe")
DECLARED: Final = {
    "uniform": Capabilities(),
    "seacache": Capabilities(explains=True),
    "deepcache": Capabilities(caches=True),
    "first-block": Capabilities(explains=True, caches=True),
    "guidance": Capabilities(omits_negative=True),
    "uniform+guidance": Capabilities(explains=True, omits_negative=True),
    "seacache+taylorseer": Capabilities(explains=True, caches=True),
}


@dataclass
class Foreign:
    """An accelerator whose runs derive from no class of the library."""

    accelerator: Accelerator

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Any:
        run, declared = self.accelerator.begin(solver, shape, seams=seams), ()
        for present, names in (
            (run.capabilities.explains, ("explain",)),
            (run.capabilities.caches, ("carried_out",)),
            (run.capabilities.omits_negative, ("learn_guidance", "guidance")),
        ):
            declared += names if present else ()
        return type("Duck", (), {name: staticmethod(getattr(run, name)) for name in (*REQUIRED, *declared)})()


@dataclass
class Proxied:
    """An accelerator whose runs forward every attribute."""

    accelerator: Accelerator

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Any:
        run = self.accelerator.begin(solver, shape, seams=seams)
        return type("Proxy", (), {"__getattr__": lambda self, name: getattr(run, name)})()


def solver() -> Solver:
    return solver_of("dpmpp2m", 20, samples=SHAPE[0])


def sampled(accelerator: Accelerator, network: str) -> Sampled:
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    denoise = Seamed(solver(), Modes.drawn(*SHAPE[:1], SHAPE[1:]), network)
    return sample(solver(), denoise, noise, accelerator, trace=True)


@pytest.mark.parametrize("name", DECLARED)
def test_a_run_declares_the_optional_methods_it_defines(name: str) -> None:
    run = make_accelerator(name).begin(solver(), SHAPE, seams=True)
    assert run.capabilities == DECLARED[name] == ForwardingRun(run, SHAPE[0]).capabilities


@pytest.mark.parametrize("wrap", [Foreign, Proxied])
@pytest.mark.parametrize("name", DECLARED)
def test_a_run_of_another_class_samples_as_the_run_behind_it(name: str, wrap: Any) -> None:
    accelerator, network = make_accelerator(name), UNET if name == "deepcache" else TRANSFORMER
    assert begin_run(wrap(accelerator), solver(), SHAPE, seams=True).capabilities == DECLARED[name]
    own, other = sampled(accelerator, network), sampled(wrap(accelerator), network)
    assert torch.equal(own.x, other.x) and own.stats.nfe == other.stats.nfe and own.stats.modes == other.stats.modes
    assert own.trace is not None and other.trace is not None
    assert own.trace.criterion_name == other.trace.criterion_name
    torch.testing.assert_close(own.trace.criterion, other.trace.criterion, rtol=0, atol=0, equal_nan=True)


def test_a_subclass_inherits_and_adds_capabilities() -> None:
    class Caches(PlainRun):
        def carried_out(self, step: int, rows: Any) -> Any:
            return []

    class Explains(Caches):
        def explain(self, step: int) -> Any:
            return None

    assert Explains(1).capabilities == Capabilities(explains=True, caches=True)


@pytest.mark.parametrize("method", [("explain", 0), ("carried_out", 0, []), ("guidance", 0, [])])
def test_a_method_that_a_run_lacks_is_named(method: tuple[Any, ...]) -> None:
    with pytest.raises(NotImplementedError, match=rf"Run plans .* `{method[0]}`"):
        getattr(Run(1), method[0])(*method[1:])


def test_wrappers_are_looked_through() -> None:
    accelerator = Uncounted(make_accelerator("uniform+first-block"))
    run = accelerator.begin(solver(), SHAPE, seams=True)
    assert not run.capabilities.caches and innermost(run).capabilities.caches
    network = type("Network", (), {"sites": frozenset({"deep"})})
    with pytest.raises(ValueError, match="'first-block' needs a transformer"):
        check_fit(accelerator, solver(), SHAPE, network)


def test_what_is_timed_reads_the_calibration_as_what_is_measured() -> None:
    """Eight times cheaper is what plans of a calibration alone can do."""
    pipe = Pipeline.from_pretrained("tiny-flux")
    how: dict[str, Any] = {"steps": 50, "solver": "euler", "output": "latent", "progress": False}
    auto = make_accelerator("auto speedup=8")
    measured, timed = (pipe("sun", accelerator=chosen, **how) for chosen in (auto, Uncounted(auto)))
    assert timed.stats.modes == measured.stats.modes and torch.equal(timed.latents, measured.latents)
