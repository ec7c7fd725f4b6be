"""The memory that loading adds to a process: the weights once, and little more, in each layout."""

import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
import gc, json, resource, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from sadaflow.models import FluxConfig, FluxTransformer
from sadaflow.loading.safetensors_file import read_headers
from sadaflow.loading.single_file import flux
from sadaflow.loading.single_file.layout import Section
from sadaflow.loading.strict import Loader
from sadaflow.loading.checkpoint import Checkpoint

layout, folder, stored, wanted = sys.argv[1], Path(sys.argv[2]), *(getattr(torch, name) for name in sys.argv[3:5])
STEM = "diffusion_pytorch_model"

def config(heads):
    blocks = 4 // wanted.itemsize  # the same bytes in each number format: one tensor is a small part of all
    return FluxConfig(
        in_channels=64, num_layers=blocks, num_single_layers=blocks, attention_head_dim=128, num_attention_heads=heads,
        joint_attention_dim=64, pooled_projection_dim=64, guidance_embeds=False)

def build(heads):
    if layout == "convolutions":
        return torch.nn.Sequential(*[torch.nn.Conv2d(512, 512, 3) for _ in range(4 * heads)])
    return FluxTransformer(config(heads))

def write(place, heads):
    place.mkdir(parents=True)
    state = build(heads).to(stored).state_dict()
    if layout == "single":
        original = FluxTransformer.original
        modules = list(original.own_modules(state))
        names = [f"{name}.{leaf}" for name in modules for leaf in ("weight", "bias") if ".norm." not in name]
        names += [f"{name}.scale" for name in modules if ".norm." in name]
        save_file({name: original.join(name, state) for name in names}, place / "flux.safetensors")
    elif layout != "sharded":
        save_file(state, place / f"{STEM}.safetensors")
    else:
        index = {}
        for shard, name in enumerate(state):
            index[name] = f"{STEM}-{shard % 3 + 1:05}-of-00003.safetensors"
        for file in sorted(set(index.values())):
            save_file({name: x for name, x in state.items() if index[name] == file}, place / file)
        (place / f"{STEM}.safetensors.index.json").write_text(json.dumps({"weight_map": index}))

def load(place, heads):
    loader = Loader(wanted, torch.device("cpu"))
    if layout == "single":
        path = place / "flux.safetensors"
        network = flux.load(Section(path, "", tuple(read_headers([path]))), loader)
    else:
        checkpoint = Checkpoint(place, None, wanted, torch.device("cpu"), pending=loader.pending)
        network = checkpoint.network("", lambda: build(heads))
    loader.fill()
    return network

if sys.argv[5] == "write":
    write(folder / "large", 10)
    write(folder / "small", 1)
    raise SystemExit
load(folder / "small", 1)  # what the first use of the libraries takes is not the weights'
gc.collect()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
module = load(folder / "large", 10)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024 / sum(tensor.numel() * tensor.element_size() for tensor in module.parameters()))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of resident memory in kilobytes, as Linux gives it")
@pytest.mark.parametrize(
    "layout, stored, wanted",
    [
        ("convolutions", "float32", "float32"),
        ("convolutions", "float16", "float32"),
        ("whole", "float32", "float32"),
        ("sharded", "float32", "float32"),
        ("sharded", "bfloat16", "float16"),
        ("single", "float32", "float32"),
        ("single", "bfloat16", "float32"),
    ],
)
def test_weights_are_in_memory_once(tmp_path: Path, layout: str, stored: str, wanted: str) -> None:
    def run(task: str) -> str:
        # Each in a process of its own: the peak of this one, and of the one that writes, would hide what is added.
        command = [sys.executable, "-c", _SCRIPT, layout, str(tmp_path), stored, wanted, task]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    run("write")
    assert sum(path.stat().st_size for path in (tmp_path / "large").glob("*.safetensors")) > 90e6
    assert float(run("load")) < 1.15


_STREAMED = """
import gc, resource, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from sadaflow.loading.checkpoint import Checkpoint
from sadaflow.models import FluxConfig, FluxTransformer
from sadaflow.placement.streaming import Stream

folder = Path(sys.argv[1])

def build(blocks):
    return FluxTransformer(FluxConfig(
        in_channels=64, num_layers=blocks, num_single_layers=blocks, attention_head_dim=128, num_attention_heads=5,
        joint_attention_dim=64, pooled_projection_dim=64))

def run(blocks):
    stream = Stream(torch.device("cpu"), ahead=2**23)
    checkpoint = Checkpoint(folder, None, torch.bfloat16, torch.device("cpu"), stream)
    network = checkpoint.network(str(blocks), lambda: build(blocks))
    checkpoint.fill()
    x, context, pooled = (torch.ones(1, *shape, dtype=torch.bfloat16) for shape in ((16, 8, 8), (8, 64), (64,)))
    with torch.no_grad():
        for _ in range(3):
            network(x, 500.0, context=context, pooled=pooled)
    gc.collect()
    return sum(tensor.numel() * tensor.element_size() for tensor in network.parameters())

if sys.argv[2] == "write":
    for blocks in (1, 10):
        (folder / str(blocks)).mkdir()
        state = build(blocks).to(torch.bfloat16).state_dict()
        save_file(state, folder / str(blocks) / "diffusion_pytorch_model.safetensors")
    raise SystemExit
run(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = run(10)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024 / size)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of resident memory in kilobytes, as Linux gives it")
def test_streamed_weights_are_never_in_memory_together(tmp_path: Path) -> None:
    def run(task: str) -> str:
        command = [sys.executable, "-c", _STREAMED, str(tmp_path), task]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    run("write")
    assert (tmp_path / "10" / "diffusion_pytorch_model.safetensors").stat().st_size > 400e6
    assert float(run("run")) < 0.4
