"""What loading adds to the memory of a process."""

import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
import resource, sys
from pathlib import Path
import torch
from torch import nn
from safetensors.torch import save_file
from sadaflow.weights import load_module

def build():
    return nn.Sequential(*[nn.Conv2d(512, 512, 3) for _ in range(40)], nn.Linear(4096, 1024))

path, stored, wanted = Path(sys.argv[1]), getattr(torch, sys.argv[2]), getattr(torch, sys.argv[3])
if wanted is stored:
    save_file({name: tensor.to(stored) for name, tensor in build().state_dict().items()}, path)
    raise SystemExit
small = path.with_name("small.safetensors")  # what the first use of the libraries takes is not the weights'
save_file({name: tensor.to(stored) for name, tensor in nn.Conv2d(4, 4, 3).state_dict().items()}, small)
load_module(lambda: nn.Conv2d(4, 4, 3), [small], dtype=wanted, device=torch.device("cpu"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
module = load_module(build, [path], dtype=wanted, device=torch.device("cpu"))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024 / sum(tensor.numel() * tensor.element_size() for tensor in module.parameters()))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of resident memory in kilobytes, as Linux gives it")
@pytest.mark.parametrize("stored, wanted", [("float32", "same"), ("float16", "float32")])
def test_weights_are_in_memory_once(tmp_path: Path, stored: str, wanted: str) -> None:
    path = tmp_path / "model.safetensors"

    def run(dtype: str) -> str:
        # Each in a process of its own: the peak of this one, and of the one that writes, would hide what is added.
        script = _SCRIPT if dtype != "same" else _SCRIPT.replace("if wanted is stored", "if False")
        command = [sys.executable, "-c", script, path, stored, stored if dtype == "same" else dtype]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    run(stored)
    assert path.stat().st_size > 190e6
    assert float(run(wanted)) < 1.15
