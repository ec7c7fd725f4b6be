"""Malicious single files: networks of absurd size are rejected by their shapes, before they are built."""

import random
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sadaflow import Pipeline
from support.checkpoints_flux import flux
from support.checkpoints_original import original
from support.flux import original_names, to_original

NETWORK = "model.diffusion_model."
CLIP, OPEN_CLIP = "cond_stage_model.transformer.text_model.", "conditioner.embedders.1.model."
T5 = "text_encoders.t5xxl.transformer."
Files = dict[str, tuple[Path, Path]]
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Files:
    files = {style: original(tmp_path_factory.mktemp(style), style) for style in ("sd15", "sdxl")}
    one_head = {"attention_head_dim": 128, "num_attention_heads": 1, "axes_dims_rope": (16, 56, 56)}
    folder = flux(tmp_path_factory.mktemp("flux") / "hub", "dev", num_layers=1, num_single_layers=1, **one_head)
    state = Pipeline.from_pretrained(folder).backbone.state_dict()
    tensors = {f"{NETWORK}{name}": x.clone() for name, x in to_original(state, original_names(1, 1)).items()}
    t5 = load_file(folder / "text_encoder_2/model.safetensors")
    tensors |= {f"{T5}{name}": tensor for name, tensor in t5.items()}
    save_file(tensors, folder.parent / "flux.safetensors")
    return {**files, "flux": (folder, folder.parent / "flux.safetensors")}


def repeated(names: list[str]) -> Tensors:
    return {name: torch.zeros(0) for name in names}


ABSURD: list[tuple[str, Tensors, str]] = [
    ("sd15", repeated([f"{NETWORK}input_blocks.1.1.transformer_blocks.{i}.x" for i in range(1000)]), "more tensors"),
    ("sd15", {f"{NETWORK}input_blocks.0.0.op.weight": torch.zeros(1)}, "no downsampling"),
    ("sd15", {f"{NETWORK}input_blocks.0.0.weight": torch.zeros(3)}, "4 dimensions"),
    ("sd15", {f"{NETWORK}input_blocks.0.0.weight": torch.zeros(0, 2**40, 1, 1)}, "none of them 0"),
    ("sd15", {f"{NETWORK}input_blocks.0.0.weight": torch.zeros(1, 2**18, 1, 1)}, "misshaped"),
    ("sd15", {f"{NETWORK}input_blocks.1.0.out_layers.3.weight": torch.zeros(2**18, 1, 1, 1)}, "misshaped"),
    ("sd15", {f"{NETWORK}out.2.bias": torch.zeros(0, 2**62)}, "misshaped"),
    ("sd15", {"first_stage_model.decoder.conv_in.weight": torch.zeros(1, 2**18, 1, 1)}, "misshaped"),
    ("sd15", repeated([f"first_stage_model.encoder.down.0.block.{i}.x" for i in range(2000)]), "layers_per_block"),
    ("sd15", {f"{CLIP}embeddings.token_embedding.weight": torch.zeros(1, 2**18)}, "asks for"),
    ("sd15", {f"{CLIP}embeddings.token_embedding.weight": torch.zeros(2**62, 0)}, "none of them 0"),
    ("sd15", {f"{CLIP}encoder.layers.0.mlp.fc1.weight": torch.zeros(2**20, 1)}, "asks for"),
    ("sd15", repeated([f"{CLIP}encoder.layers.{i}.x" for i in range(1000)]), "asks for"),
    ("sdxl", {f"{OPEN_CLIP}text_projection": torch.zeros(1, 2**20)}, "asks for"),
    ("sdxl", {f"{OPEN_CLIP}text_projection": torch.zeros(2)}, "2 dimensions"),
    ("sdxl", {f"{OPEN_CLIP}positional_embedding": torch.zeros(2**20, 1)}, "asks for"),
    ("sdxl", {f"{OPEN_CLIP}transformer.resblocks.7.ln_1.bias": torch.zeros(128)}, "1 unexpected"),
    ("sdxl", {f"{OPEN_CLIP}transformer.resblocks.0.attn.in_proj_bias": torch.zeros(7)}, "7 rows"),
    ("sdxl", {f"{NETWORK}label_emb.0.0.weight": torch.zeros(1, 2**20)}, "label_emb|misshaped|projection_class"),
    ("flux", {f"{NETWORK}img_in.weight": torch.zeros(2**20, 4)}, "misshaped"),
    ("flux", {f"{NETWORK}vector_in.in_layer.weight": torch.zeros(1, 2**20)}, "misshaped"),
    ("flux", repeated([f"{NETWORK}double_blocks.{i}.x" for i in range(999)]), "more tensors"),
    ("flux", {f"{NETWORK}final_layer.adaLN_modulation.1.bias": torch.zeros(())}, "misshaped"),
    ("flux", {f"{T5}shared.weight": torch.zeros(1, 2**18)}, "asks for"),
]


def write(tensors: Tensors, target: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, target)
    return target


@pytest.mark.parametrize("style, change, words", ABSURD, ids=[f"{a}-{next(iter(b))[-40:]}" for a, b, _ in ABSURD])
def test_shapes_beyond_measure(style: str, change: Tensors, words: str, made: Files, tmp_path: Path) -> None:
    folder, file = made[style]
    path = write({**load_file(file), **change}, tmp_path / "absurd.safetensors")
    with pytest.raises(ValueError, match=words) as caught:
        Pipeline.from_single_file(path, base=folder)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 5000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of resident memory in kilobytes, as Linux gives it")
def test_the_memory_that_refusing_takes(made: Files, tmp_path: Path) -> None:
    """What the worst of the above add to the memory of a process; without the checks they ask for terabytes."""
    for number, (style, change, words) in enumerate(ABSURD):
        if words not in ("asks for", "more tensors") and max(map(torch.numel, change.values())) < 2**18:
            continue
        write({**load_file(made[style][1]), **change}, tmp_path / f"{style}-{number}.safetensors")
    script = """
import resource, sys
from pathlib import Path
from sadaflow import Pipeline
for style, folder, file in zip(*[iter(sys.argv[2:])] * 3):
    if style != "flux":  # which the checkpoint in the Hub's layout has loaded as much of
        Pipeline.from_single_file(file, tokenizer=folder)
    Pipeline.from_pretrained(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in Path(sys.argv[1]).glob(f"{style}-*"):
        try:
            Pipeline.from_single_file(path, base=folder)
            raise SystemExit(f"taken: {path}")
        except ValueError:
            pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    places = [str(word) for style, pair in made.items() for word in (style, *pair)]
    command = [sys.executable, "-c", script, str(tmp_path), *places]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert all(int(line) * 1024 < 64 * 2**20 for line in run.stdout.split()), run.stdout


def mutated(tensors: Tensors, draw: random.Random) -> Tensors:
    """One tensor reshaped, emptied, stretched without elements, renamed, repeated elsewhere or removed."""
    name = draw.choice(sorted(tensors))
    tensor, rest = tensors[name], {key: value for key, value in tensors.items() if key != name}
    other = draw.choice(sorted(tensors))
    match draw.randrange(7):
        case 0:
            return {**rest, name: tensor.reshape(draw.choice(([-1], [1, -1], [1, 1, 1, 1, -1], tensor.shape[::-1])))}
        case 1:
            return {**rest, name: torch.zeros(draw.choice(((), (0,), (1,), (0, 2**40), (2**62, 0), (1, 0, 3, 3))))}
        case 2:
            return {**rest, name: torch.zeros([draw.choice((1, 2, 3, 5, 2**12)) if n < 2 else 1 for n in range(2)])}
        case 3:
            digits = draw.choice(("0", "00", "999999999", "9" * 5000, "-1", "x", "\u0663"))
            return {**rest, ".".join(digits if part.isdigit() else part for part in name.split(".")): tensor}
        case 4:
            return {**tensors, name + draw.choice((".", ".weight", "..0.", ".0.weight")): tensor.clone()}
        case 5:
            return {**rest, name: tensors[other].clone()}
        case _:
            return rest


@pytest.mark.parametrize("count", [8, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.parametrize("style", ["sd15", "sdxl", "flux"])
def test_files_that_went_wrong_anywhere(style: str, count: int, made: Files, tmp_path: Path) -> None:
    folder, file = made[style]
    draw, plain, refused = random.Random(f"seed of {style}"), load_file(file), 0
    for number in range(count):
        path = write(mutated(plain, draw), tmp_path / "mutated.safetensors")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                Pipeline.from_single_file(path, base=folder)
        except (ValueError, OSError) as error:
            assert str(path) in str(error), (number, error)
            refused += 1
    assert refused > count // 2
