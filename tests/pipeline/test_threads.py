"""One pipeline in several threads gives the results of a single thread, bit for bit."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.accelerators import Mode
from sadaflow.families.prompt_encoder import tokenize
from sadaflow.loading.quiet import quiet
from sadaflow.models import kept_layouts
from sadaflow.models.conv import Conv2d
from sadaflow.sampling.nfe import Meter
from sadaflow.sampling.operation_count import OperationCount
from support.checkpoints import stable_diffusion_xl

THREADS = 6
PROMPTS = ("fox", "a red apple on a table beside the window of an old house", "", "blue heart")


def together(jobs: list[Callable[[], Any]]) -> list[Any]:
    """The results of `jobs`, which begin at the same time in threads of their own."""
    ready = threading.Barrier(len(jobs))

    def run(job: Callable[[], Any]) -> Any:
        ready.wait()
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def sampled(pipe: Pipeline, index: int, accelerator: str | None) -> Tensor:
    """Calls differ in prompts, samples, sizes and whether an accelerator counts operations."""
    prompts = [PROMPTS[(index + row) % len(PROMPTS)] for row in range(1 + index % 2)]
    call: dict[str, Any] = {"seed": [index + row for row in range(len(prompts))], "progress": False}
    call |= {"height": 64 if index % 3 else 32, "width": 64, "accelerator": accelerator if index % 2 else None}
    return pipe(prompts, steps=4, output="tensor", **call).images


@pytest.mark.filterwarnings("ignore:prompt")
@pytest.mark.parametrize(
    ("name", "accelerator"), [("tiny-sd", "deepcache"), ("tiny-flux", "first-block"), ("sdxl", "deepcache")]
)
def test_results_are_those_of_single_calls(name: str, accelerator: str, tmp_path: Path) -> None:
    pipe = Pipeline.from_pretrained(stable_diffusion_xl(tmp_path / "xl") if name == "sdxl" else name)
    expected = [sampled(pipe, index, accelerator) for index in range(THREADS)]
    for _ in range(2):
        found = together([lambda index=index: sampled(pipe, index, accelerator) for index in range(THREADS)])
        assert all(map(torch.equal, found, expected))


@pytest.mark.filterwarnings("ignore:prompt")
def test_streamed_pipelines_take_turns() -> None:
    pipe = Pipeline.from_pretrained("tiny-flux", offload="stream")
    expected = [sampled(pipe, index, None) for index in range(4)]
    found = together([lambda index=index: sampled(pipe, index, None) for index in range(4)])
    assert all(map(torch.equal, found, expected))


@pytest.mark.filterwarnings("ignore:prompt")
def test_tokens_are_padded_whatever_other_threads_ask_for() -> None:
    tokenizer = Pipeline.from_pretrained("tiny-flux").family.t5.tokenizer  # type: ignore[attr-defined]
    alone = {length: tokenize(tokenizer, PROMPTS, length)["input_ids"] for length in (4, 9, 16)}
    jobs = [lambda length=length: [tokenize(tokenizer, PROMPTS, length) for _ in range(100)] for length in alone] * 2
    for length, batches in zip([*alone] * 2, together(jobs), strict=True):
        assert all(torch.equal(batch["input_ids"], alone[length]) for batch in batches)


def test_layouts_are_those_of_the_call() -> None:
    """A layout is made for the shape met first; another thread's must not be met with another shape."""
    network = Conv2d(8, 8, 3, padding=1).requires_grad_(False)
    shapes = [(1, 8, size, size) for size in (4, 8, 16, 33)]

    def run(shape: tuple[int, ...]) -> Tensor:
        torch.manual_seed(0)
        x = torch.ones(shape)
        with kept_layouts(network):
            return torch.stack([network(x) for _ in range(50)])

    expected = [run(shape) for shape in shapes]
    found = together([lambda shape=shape: run(shape) for shape in shapes])
    assert all(map(torch.equal, found, expected))


def test_operations_of_other_threads_are_not_counted() -> None:
    a, b = torch.ones(4, 5), torch.ones(5, 6)
    done = threading.Event()

    def count() -> int:
        with OperationCount({}) as counter:
            for _ in range(200):
                torch.nn.functional.linear(a, b.T)
        return counter.total

    def others() -> int:
        while not done.is_set():
            torch.nn.Linear(64, 64)(torch.ones(64, 64))
        return 0

    busy = threading.Thread(target=others)
    busy.start()
    try:
        assert together([count] * 4) == [200 * 2 * 4 * 5 * 6] * 4
    finally:
        done.set()
        busy.join()


def test_a_meter_does_not_hook_modules() -> None:
    before = dict(torch.nn.modules.module._global_forward_pre_hooks)
    with Meter(True).watching(Mode.FULL):
        assert torch.nn.modules.module._global_forward_pre_hooks == before


def test_verbosity_is_put_back_after_the_last_reader() -> None:
    class Logging:
        level = 30

        def get_verbosity(self) -> int:
            return self.level

        def set_verbosity(self, level: int) -> None:
            self.level = level

        def set_verbosity_error(self) -> None:
            self.level = 40

    logging = Logging()
    first, second = quiet(logging), quiet(logging)
    with first:
        second.__enter__()
        assert logging.level == 40
    assert logging.level == 40
    second.__exit__(None, None, None)
    assert logging.level == 30
