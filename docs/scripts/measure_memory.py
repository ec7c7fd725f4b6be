"""The numbers of docs/memory.md: how much memory networks of full size take, with random weights.

    python docs/scripts/measure_memory.py tiles               decoding whole and in tiles; --device meta computes
    python docs/scripts/measure_memory.py parts               what each part of Flux.1 dev takes on a device (computed)
    python docs/scripts/measure_memory.py precision           half precision against float32, embedded checkpoints
    python docs/scripts/measure_memory.py write FOLDER        Flux.1 dev's configuration on disk: 33.7 GB; with --model
                                                              z-image-turbo, flux2-klein-4b or wan2.1-t2v-1.3b that
                                                              of others
    python docs/scripts/measure_memory.py run FOLDER --limit 12  prompt to picture from it on the CPU, in so many GB:
                                                              streamed, or with --quantize int8 or fp8 all in memory

`run` fails where the largest resident set (VmHWM) passes the limit. That counts everything of the process: heap,
libraries, and whatever of the files is mapped; not the page cache, which the kernel gives up where memory is short.
"""

import argparse
import json
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from full_size import CLIP, MODELS, T5, TRANSFORMER, VAE, flux_parts
from torch import Tensor, nn

from sadaflow import Pipeline
from sadaflow.bench.run.memory import peak_memory
from sadaflow.families import Flux
from sadaflow.loading.export import export_checkpoint
from sadaflow.metrics import psnr
from sadaflow.models import Autoencoder, AutoencoderConfig, Site
from sadaflow.placement.quantization import QUANTIZATIONS
from sadaflow.solvers import Solver
from sadaflow.solvers.base import State

META = torch.device("meta")
SHARDS = {"transformer": 3, "text_encoder_2": 2}
SD_VAE = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}


def size_of(part: nn.Module) -> int:
    return sum(weight.numel() * weight.element_size() for weight in part.parameters())


def parts() -> None:
    """Weights, and the most that tensors take beside them, of a picture of 1024x1024 pixels.

    Tensors without memory go through the networks, and what they would take is counted. Attention of the transformer
    counts as a fused kernel, which keeps no scores.
    """
    made = flux_parts()
    half: dict[str, Any] = {"dtype": torch.bfloat16, "device": META}
    ids = torch.zeros(1, 512, dtype=torch.long, device=META)
    x = torch.empty(1, 16, 128, 128, **half)
    given = {
        name: torch.empty(1, *shape, **half)
        for name, shape in {"context": (512, 4096), "pooled": (768,), "guidance": ()}.items()
    }
    acts: dict[str, Callable[[], object]] = {
        "text_encoder": lambda: made["text_encoder"](ids[:, :77]),
        "text_encoder_2": lambda: made["text_encoder_2"](ids),
        "transformer": lambda: made["transformer"](x, 500.0, **given, seam=_fused),
        "vae": lambda: made["vae"].decode(x),
    }
    print("| part | parameters | weights | beside them |\n|---|---|---|---|")
    for name, part in made.items():
        with torch.no_grad():
            beside = peak_memory(acts[name], META)
        count = sum(weight.numel() for weight in part.parameters())
        print(f"| `{name}` | {count / 1e9:.2f} G | {size_of(part) / 1e9:.2f} GB | {beside / 1e9:.2f} GB |", flush=True)


def _fused(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
    return torch.empty_like(hidden) if site.kind == "attention" else fn(hidden, *args)


def tiles(device: str, sides: list[int]) -> None:
    """Stable Diffusion's autoencoder; on the meta device memory is computed and nothing else."""
    torch.manual_seed(0)
    with torch.device(device):
        vae = Autoencoder(AutoencoderConfig.from_dict(SD_VAE)).requires_grad_(False).eval()
        vae = vae.to(memory_format=torch.channels_last)
        latents = {side: torch.randn(1, 4, side // 8, side // 8) for side in sides}
    vae.decode(torch.randn(1, 4, 8, 8, device=device))  # libraries take what they then keep
    print("| pixels | tile | peak memory beside the weights | seconds of the processor |\n|---|---|---|---|")
    for side in sides:
        for tile in (None, 512, 256):
            if tile is None or tile < side:
                vae.tile = tile
                began = time.process_time()
                peak = peak_memory(partial(vae.decode, latents[side]), torch.device(device))
                seconds = time.process_time() - began
                print(f"| {side}x{side} | {tile or 'whole'} | {peak / 1e9:.2f} GB | {seconds:.0f} |", flush=True)


@dataclass(frozen=True)
class _Rounded:
    """A solver whose state has no more digits than `dtype`."""

    solver: Solver
    dtype: torch.dtype

    def __getattr__(self, name: str) -> Any:
        return getattr(self.solver, name)

    def step(self, state: State, x0: Tensor) -> State:
        after = self.solver.step(state, x0)
        return replace(after, x=after.x.to(self.dtype).to(after.x.dtype))


def precision(steps: int) -> None:
    """The embedded checkpoints in half precision against float32, with the solver's state as it is and rounded too."""
    prompts = ["hot dog", "fire", "tree", "blue heart"]
    print("| checkpoint | networks | state | PSNR mean / worst |\n|---|---|---|---|")
    for model in ("tiny-sd", "tiny-flux"):
        call: dict[str, Any] = {"seed": list(range(len(prompts))), "output": "tensor", "progress": False}
        exact = Pipeline.from_pretrained(model)
        call["guidance"] = exact.default_guidance
        solver = exact.solver("euler", steps)
        reference = exact(prompts, solver=solver, **call).images
        for dtype in (torch.bfloat16, torch.float16):
            pipe = Pipeline.from_pretrained(model, dtype=dtype)
            for label, chosen in (("float32", solver), (str(dtype)[6:], _Rounded(solver, dtype))):
                values = psnr(pipe(prompts, solver=chosen, **call).images, reference)
                row = f"| {model} | {str(dtype)[6:]} | {label} | {values.mean():.1f} / {values.min():.1f} |"
                print(row, flush=True)


def write(folder: Path, model: str) -> None:
    """A checkpoint in the Hub's layout, a tensor at a time; tokenizers and scheduler of Flux.1 dev are tiny-flux's."""
    if model in MODELS:
        MODELS[model].write_small(folder)
        parts, configs = MODELS[model].networks(), dict(MODELS[model].configs)
    else:
        export_checkpoint("tiny-flux", folder)
        configs = {"text_encoder": CLIP, "text_encoder_2": T5, "transformer": TRANSFORMER, "vae": VAE}
        parts = flux_parts()
    values = torch.randn(2**26, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    for name, part in parts.items():
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(configs[name]))
        stem = "model" if name.startswith("text") else "diffusion_pytorch_model"
        state = part.state_dict()
        if "shared.weight" in state:  # of T5, whose files hold its embedding once
            state.pop("encoder.embed_tokens.weight")
        count, names = SHARDS.get(name, 1), list(state)
        groups = [names[index * len(names) // count : (index + 1) * len(names) // count] for index in range(count)]
        files = [f"{stem}-{index + 1:05}-of-{count:05}.safetensors" for index in range(count)]
        if count == 1:
            files = [f"{stem}.safetensors"]
        else:
            placed = {key: file for file, group in zip(files, groups, strict=True) for key in group}
            (folder / name / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
        for file, group in zip(files, groups, strict=True):
            _write_file(folder / name / file, {key: state[key] for key in group}, values)
            print(f"{name}/{file}: {(folder / name / file).stat().st_size / 1e9:.2f} GB", flush=True)


def _write_file(path: Path, state: Mapping[str, Tensor], values: Tensor) -> None:
    """The safetensors format: eight bytes with the header's length, the header, the tensors one after the other."""
    header, at = {}, 0
    for name, tensor in state.items():
        kind, end = ("BF16" if tensor.is_floating_point() else "I64"), at + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in state.items():
            if not tensor.is_floating_point():  # a count of training steps
                file.write(bytes(tensor.numel() * tensor.element_size()))
                continue
            for part in _weights(name, tensor, values):
                file.write(part.view(torch.uint8).numpy())


def _weights(name: str, tensor: Tensor, values: Tensor) -> Iterator[Tensor]:
    """Normal numbers of a variance that keeps activations small; norms are ones."""
    left, scale = tensor.numel(), 0.5 / tensor[0].numel() ** 0.5
    while left > 0:
        part = values[: min(left, len(values))]
        ones = tensor.dim() == 1 and name.endswith(("weight", "running_var"))
        yield torch.ones_like(part) if ones else part * scale
        left -= len(part)


def run(
    folder: Path, limit: float, side: int, steps: int, tokens: int, quantize: str | None, frames: int | None
) -> None:
    began = time.perf_counter()

    def note(what: str) -> float:
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        peak, anonymous = (int(status[key].split()[0]) * 1024 / 1e9 for key in ("VmHWM", "RssAnon"))
        faults = resource.getrusage(resource.RUSAGE_SELF)
        print(
            f"{what}: {time.perf_counter() - began:.0f} s, of the processor {faults.ru_utime + faults.ru_stime:.0f} s; "
            f"peak resident {peak:.2f} GB, anonymous now {anonymous:.2f} GB",
            flush=True,
        )
        return peak

    note("imported")
    how = {"offload": "stream"} if quantize is None else {"quantize": quantize}
    pipe = Pipeline.from_pretrained(folder, dtype=torch.bfloat16, **how)
    note("loaded")
    call = {"height": side, "width": side, "steps": steps, "max_sequence_length": tokens}
    guided: dict[str, Any] = {"guidance": 3.5} if isinstance(pipe.family, Flux) else {}
    guided |= {} if frames is None else {"num_frames": frames}
    made = pipe("red apple", output="latent" if frames else "tensor", progress=False, **call, **guided)
    shown = made.latents if frames else made.images
    if not bool(torch.isfinite(shown).all()):
        raise RuntimeError("the output is not finite")
    peak = note(f"{steps} evaluations and {'latents' if frames else 'a picture'} of {tuple(shown.shape)}")
    print(f"sampling: {made.stats.seconds:.0f} s; NFE {made.stats.nfe}")
    if peak > limit:
        raise RuntimeError(f"{peak:.2f} GB are more than {limit:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    tasks = parser.add_subparsers(dest="task", required=True)
    for name in ("tiles", "parts", "precision", "write", "run"):
        task = tasks.add_parser(name)
        if name in ("write", "run"):
            task.add_argument("folder", type=Path)
    tasks.choices["write"].add_argument("--model", choices=("flux1-dev", *MODELS), default="flux1-dev")
    tasks.choices["tiles"].add_argument("--device", default="cpu")
    tasks.choices["tiles"].add_argument("--sides", type=int, nargs="+", default=[512, 1024])
    tasks.choices["precision"].add_argument("--steps", type=int, default=50)
    for flag, default in (("--side", 256), ("--steps", 2), ("--tokens", 512)):
        tasks.choices["run"].add_argument(flag, type=int, default=default)
    tasks.choices["run"].add_argument("--limit", type=float, default=12.0, metavar="GB")
    tasks.choices["run"].add_argument("--frames", type=int, help="of a video, of which only the latents are made")
    tasks.choices["run"].add_argument("--quantize", choices=tuple(QUANTIZATIONS))
    options = vars(parser.parse_args())
    acts: dict[str, Callable[..., None]] = {
        "tiles": tiles, "parts": parts, "precision": precision, "write": write, "run": run,
    }  # fmt: skip
    acts[options.pop("task")](**options)


if __name__ == "__main__":
    main()
