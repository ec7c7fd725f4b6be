"""Seconds and memory of loading a single file of full SDXL size, beside Diffusers, for docs/loading.md.

    python docs/scripts/measure_single_file.py write FOLDER    writes a file in the authors' layout with random weights
                                                               (float16, 6.9 GB), and a folder of configs, tokenizers
    python docs/scripts/measure_single_file.py measure FOLDER  loads it in turns, each time in a process of its own

Seconds are those of the call alone, after all imports. Memory is the largest resident set of the process (VmHWM) above
that before the call: all that is copied, and whatever of the file is mapped. `--cold` drops the file from the system's
page cache before each call. Diffusers leaves weights that need no conversion in the mapped file, and reads them when
they are first used; `--use` also reads every weight once after the call, in both libraries.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sadaflow.bench.speed.loading import forget
from sadaflow.loading.embedded import EMBEDDED
from sadaflow.loading.hub.write import published_keys, write_json
from sadaflow.loading.single_file import autoencoder, unet
from sadaflow.models import Autoencoder, AutoencoderConfig, UNet, UNetConfig

UNET = {
    "_class_name": "UNet2DConditionModel", "sample_size": 128, "layers_per_block": 2, "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 2, 10], "use_linear_projection": True,
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
VAE = {
    "_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2,
    "scaling_factor": 0.13025, "force_upcast": True, "sample_size": 1024,
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
}  # fmt: skip
TEXTS = {
    "text_encoder": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "text_encoder_2": {
        "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
        "hidden_act": "gelu", "projection_dim": 1280,
    },
}  # fmt: skip
CLASSES = {"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection"}
SCHEDULER = {
    "_class_name": "EulerDiscreteScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085,
    "beta_end": 0.012, "num_train_timesteps": 1000, "timestep_spacing": "leading", "steps_offset": 1,
}  # fmt: skip
FILE = "random_xl.safetensors"
_POOL = 2**24


def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of sd_xl_base_1.0.safetensors."""
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        networks: tuple[Any, Any] = UNet(UNetConfig.from_dict(UNET)), Autoencoder(AutoencoderConfig.from_dict(VAE))
        clip = CLIPTextModel(CLIPTextConfig(**TEXTS["text_encoder"]))
    found: dict[str, tuple[int, ...]] = {}
    prefixed = (("model.diffusion_model.", unet.key_map), ("first_stage_model.", autoencoder.key_map))
    for (prefix, key_map), network in zip(prefixed, networks, strict=True):
        state = network.state_dict()
        found |= {prefix + name: tuple(state[hub].shape) for name, hub in key_map(network).items()}
    attention = [name for name in found if ".mid.attn_1." in name and len(found[name]) == 2]
    found |= {name: (*found[name], 1, 1) for name in attention}
    prefix = "conditioner.embedders.0.transformer."
    found |= {prefix + name: tuple(x.shape) for name, x in published_keys(clip.state_dict()).items()}
    return found | {f"conditioner.embedders.1.model.{name}": shape for name, shape in open_clip()}


def open_clip() -> Iterator[tuple[str, tuple[int, ...]]]:
    config = TEXTS["text_encoder_2"]
    width, inner, layers = (config[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    yield from (("positional_embedding", (77, width)), ("token_embedding.weight", (49408, width)), ("logit_scale", ()))
    yield from (("text_projection", (width, width)), ("ln_final.weight", (width,)), ("ln_final.bias", (width,)))
    modules = {"attn.out_proj": (width, width), "mlp.c_fc": (inner, width), "mlp.c_proj": (width, inner)}
    for layer in (f"transformer.resblocks.{index}" for index in range(layers)):
        yield from ((f"{layer}.attn.in_proj_weight", (3 * width, width)), (f"{layer}.attn.in_proj_bias", (3 * width,)))
        for name, shape in modules.items():
            yield from ((f"{layer}.{name}.weight", shape), (f"{layer}.{name}.bias", shape[:1]))
        for name in ("ln_1", "ln_2"):
            yield from ((f"{layer}.{name}.weight", (width,)), (f"{layer}.{name}.bias", (width,)))


def write(folder: Path) -> None:
    """Write the file piece by piece, and beside it what both libraries read besides the weights."""
    folder.mkdir(parents=True)
    tensors, header, place = shapes(), {}, 0
    for name, shape in tensors.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    pool = torch.randn(_POOL, generator=torch.Generator().manual_seed(0)).half() / 30
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / FILE).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in tensors.values():
            left = math.prod(shape)
            while left:
                part = min(left, _POOL)
                file.write(pool[:part].numpy().tobytes())
                left -= part
    write_configs(folder / "config")
    print(f"{folder / FILE}: {(folder / FILE).stat().st_size / 1e9:.2f} GB")


def write_configs(folder: Path) -> None:
    for name, config in (("unet", UNET), ("vae", VAE)):
        write_json(folder / name / "config.json", config)
    shared = {"vocab_size": 49408, "max_position_embeddings": 77, "eos_token_id": 2, "bos_token_id": 0}
    for name, text in TEXTS.items():
        config = {"model_type": "clip_text_model", "architectures": [CLASSES[name]], **shared, **text}
        write_json(folder / name / "config.json", config)
        tokenizer = folder / name.replace("text_encoder", "tokenizer")
        shutil.copytree(EMBEDDED / "tiny-sd" / "tokenizer", tokenizer)
        settings = json.loads((tokenizer / "tokenizer_config.json").read_text())
        special = {"model_max_length": 77, "pad_token": settings["eos_token"]}
        write_json(tokenizer / "tokenizer_config.json", {**settings, **special})
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    index: dict[str, Any] = {"_class_name": "StableDiffusionXLPipeline", "_diffusers_version": "0.42.0"}
    index |= {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    index |= {name: ["transformers", cls] for name, cls in CLASSES.items()}
    index |= {name: ["transformers", "CLIPTokenizer"] for name in ("tokenizer", "tokenizer_2")}
    index |= {"scheduler": ["diffusers", "EulerDiscreteScheduler"], "feature_extractor": [None, None]}
    write_json(folder / "model_index.json", {**index, "image_encoder": [None, None]})


def load(library: str, folder: Path, dtype: torch.dtype, use: bool) -> Mapping[str, float]:
    """Load the file with one library, in this process."""
    file, config = folder / FILE, folder / "config"
    if library == "sadaflow":
        from sadaflow import Pipeline

        Pipeline.from_pretrained("tiny-sd")  # imports, as below
        make: Any = lambda: Pipeline.from_single_file(file, tokenizer=config, dtype=dtype)  # noqa: E731
    else:
        from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

        StableDiffusionPipeline.from_pretrained(EMBEDDED / "tiny-sd", safety_checker=None)
        make = lambda: StableDiffusionXLPipeline.from_single_file(  # noqa: E731
            str(file), config=str(config), torch_dtype=dtype, local_files_only=True, add_watermarker=False
        )
    before, began = largest_resident(), time.perf_counter()
    pipe = make()
    if use:
        total = sum(float(tensor.flatten()[:: 2048 // tensor.element_size()].sum()) for tensor in weights(pipe))
        assert not math.isnan(total)
    return {"seconds": time.perf_counter() - began, "bytes": largest_resident() - before}


def largest_resident() -> int:
    """The largest resident set of this process so far, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def weights(pipe: Any) -> Iterator[Tensor]:
    """The weights of a pipeline of either library."""
    networks = pipe.family.networks.values() if hasattr(pipe, "family") else pipe.components.values()
    for network in networks:
        yield from network.parameters() if isinstance(network, torch.nn.Module) else ()


def measure(folder: Path, rounds: int, cold: bool, flags: list[str]) -> None:
    size = (folder / FILE).stat().st_size
    found: dict[str, list[Mapping[str, float]]] = {"sadaflow": [], "diffusers": []}
    for _ in range(rounds):
        for library, results in found.items():
            if cold:
                forget(folder / FILE)
            command = [sys.executable, __file__, "load", str(folder), "--library", library, *flags]
            out = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ}).stdout
            results.append(json.loads(out.splitlines()[-1]))
            print(library, results[-1], file=sys.stderr)
    for library, results in found.items():
        seconds, most = (sorted(result[name] for result in results) for name in ("seconds", "bytes"))
        spread = f"({seconds[0]:.2f} to {seconds[-1]:.2f})"
        print(f"| {library} | {statistics.median(seconds):.2f} {spread} | {statistics.median(most) / size:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("act", choices=("write", "measure", "load"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--library", choices=("sadaflow", "diffusers"))
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--use", action="store_true")
    parser.add_argument("--dtype", default="float16")
    given = parser.parse_args()
    if given.act == "write":
        write(given.folder)
    elif given.act == "load":
        print(json.dumps(load(given.library, given.folder, getattr(torch, given.dtype), given.use)))
    else:
        flags = ["--dtype", given.dtype, *(["--use"] if given.use else [])]
        measure(given.folder, given.rounds, given.cold, flags)


if __name__ == "__main__":
    main()
