"""Pipelines in processes, after interrupts, within their own calls, and sharing networks: the same bits as alone."""

import copy
import multiprocessing
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sadaflow import Pipeline


def sampled(pipe: Pipeline, seed: int = 5) -> Tensor:
    return pipe("fox", steps=3, seed=seed, height=32, width=32, output="tensor", progress=False).images


def _child(pipe: Pipeline, results: Any) -> None:
    torch.set_num_threads(1)
    results.put(sampled(pipe).numpy())


def _in_process(method: str, pipe: Pipeline) -> Tensor:
    context: Any = multiprocessing.get_context(method)
    results = context.Queue()
    child = context.Process(target=_child, args=(pipe, results))
    child.start()
    found = torch.from_numpy(results.get(timeout=240))
    child.join()
    assert child.exitcode == 0
    return found


@pytest.fixture
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.usefixtures("one_thread")
def test_a_forked_process_gives_the_same() -> None:
    """With one thread of torch, before and after the pipeline was used."""
    pipe = Pipeline.from_pretrained()
    before = _in_process("fork", pipe)
    assert torch.equal(before, sampled(pipe)) and torch.equal(before, _in_process("fork", pipe))


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_spawned_process_gives_the_same() -> None:
    pipe = Pipeline.from_pretrained()
    assert torch.equal(_in_process("spawn", pipe), sampled(pipe))


def _interrupted_at(pipe: Pipeline, call: int) -> None:
    """A call in which Ctrl-C arrives during the evaluation `call` of the network."""
    calls = iter(range(100))

    def interrupt(module: torch.nn.Module, arguments: Any) -> None:
        if next(calls) == call:
            raise KeyboardInterrupt

    network: Any = pipe.backbone
    hook = next(module for module in network.modules() if isinstance(module, torch.nn.Linear))
    handle = hook.register_forward_pre_hook(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            sampled(pipe, 6)
    finally:
        handle.remove()


@pytest.mark.parametrize("offload", [None, "stream"])
def test_an_interrupt_leaves_nothing_behind(offload: str | None) -> None:
    expected = sampled(Pipeline.from_pretrained())
    pipe = Pipeline.from_pretrained(offload=offload)
    for call in (0, 1):
        _interrupted_at(pipe, call)
        assert torch.equal(sampled(pipe), expected)
    other = threading.Thread(target=sampled, args=(pipe,))  # no lock is held
    other.start()
    other.join(60)
    assert not other.is_alive()


@pytest.mark.parametrize("offload", [None, "stream"])
def test_a_call_within_a_call_gives_the_same(offload: str | None) -> None:
    pipe = Pipeline.from_pretrained(offload=offload)
    outer, inner = sampled(pipe, 5), sampled(pipe, 6)
    found: list[Tensor] = []

    def nested(module: torch.nn.Module, arguments: Any) -> None:
        handle.remove()
        found.append(sampled(pipe, 6))

    network: Any = pipe.backbone
    handle = next(m for m in network.modules() if isinstance(m, torch.nn.Linear)).register_forward_pre_hook(nested)
    assert torch.equal(sampled(pipe, 5), outer) and torch.equal(found[0], inner)


@pytest.mark.filterwarnings("ignore:prompt")
def test_pipelines_that_share_networks_give_the_same() -> None:
    """In threads; `copy.copy` shares the networks."""
    pipe = Pipeline.from_pretrained()
    pipes = [pipe, copy.copy(pipe), copy.copy(pipe)]
    assert all(other.backbone is pipe.backbone for other in pipes)
    expected = [sampled(pipe, seed) for seed in range(6)]
    found: dict[int, Tensor] = {}

    def run(job: Callable[[], tuple[int, Tensor]]) -> None:
        seed, images = job()
        found[seed] = images

    jobs = [lambda seed=seed: (seed, sampled(pipes[seed % 3], seed)) for seed in range(6)]
    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[seed], expected[seed]) for seed in range(6))
