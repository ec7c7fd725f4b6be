"""Checkpoints written to do harm: each is refused by name, within the memory and time that its real size warrants."""

import copy
import json
import math
import pickle
import random
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sadaflow import Pipeline
from sadaflow.families.prompt_encoder import ClipText
from sadaflow.loading.checkpoint import Checkpoint
from sadaflow.loading.safetensors_file import read_headers
from sadaflow.loading.tokenizer_files import load_tokenizer
from sadaflow.loading.weight_files import find_weights
from sadaflow.models import Autoencoder, AutoencoderConfig, UNet, UNetConfig
from sadaflow.solvers import from_scheduler_config
from support.checkpoints import stable_diffusion

UNET = "unet/diffusion_pytorch_model.safetensors"
WEIGHTS = {
    "unet": "conv_in.weight",
    "vae": "decoder.conv_in.bias",
    "text_encoder": "text_model.encoder.layers.1.mlp.fc1.weight",
}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stable_diffusion(tmp_path_factory.mktemp("hub") / "sd15", "sd15")


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "checkpoint"))


def _refused(folder: Path, *words: str, **arguments: Any) -> None:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        Pipeline.from_pretrained(folder, **arguments)
    message = str(caught.value)
    assert len(message) < 5000
    for word in words:
        assert word in message, f"{word!r} is not in: {message}"


def _weights_of(folder: Path, component: str) -> Path:
    (path,) = (folder / component).glob("*.safetensors")
    return path


def _header(content: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def _entry(shape: list[int], start: int, end: int, kind: str = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


HEADERS = {
    "nothing": b"",
    "a length alone": (16).to_bytes(8, "little"),
    "a header of an exabyte": _header({}, length=2**60),
    "a header of 99 megabytes": _header({}, length=99_000_000),
    "a tensor of terabytes": _header({"x": _entry([2**40], 0, 2**42)}, bytes(16)),
    "more elements than can be counted": _header({"x": _entry([2**62, 8], 0, 16)}, bytes(16)),
    "a negative size": _header({"x": _entry([-4], 0, 16)}, bytes(16)),
    "overlapping tensors": _header({"x": _entry([4], 0, 16), "y": _entry([4], 0, 16)}, bytes(16)),
    "half overlapping tensors": _header({"x": _entry([4], 0, 16), "y": _entry([4], 8, 24)}, bytes(24)),
    "offsets out of range": _header({"x": _entry([4], 16, 32)}, bytes(16)),
    "offsets backwards": _header({"x": _entry([4], 16, 0)}, bytes(16)),
    "negative offsets": _header({"x": _entry([4], -16, 0)}, bytes(16)),
    "a size that is not the offsets'": _header({"x": _entry([5], 0, 16)}, bytes(16)),
    "a hole": _header({"x": _entry([4], 0, 16), "y": _entry([4], 32, 48)}, bytes(48)),
    "bytes of nobody": _header({"x": _entry([4], 0, 16)}, bytes(64)),
    "an unknown number format": _header({"x": _entry([4], 0, 16, "X32")}, bytes(16)),
    "no JSON": _header(b"{not json}"),
    "a list": _header([1, 2]),
    "deep nesting": _header(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "no text": _header(b"\xff\xfe\x00\x00"),
    "a pointer to a large file": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "a web page": b"<!DOCTYPE html><html>Not Found</html>" * 10,
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS.keys())
def test_headers_that_lie(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="truncated or not a safetensors file") as caught:
        list(read_headers([path]))
    assert str(path) in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize("component", WEIGHTS)
def test_every_component_refuses_them(folder: Path, component: str) -> None:
    path = _weights_of(folder, component)
    path.write_bytes(HEADERS["a tensor of terabytes"])
    _refused(folder, str(path), "not a safetensors file")


class _Bomb:
    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return (pytest.fail, ("a pickle was run",))


@pytest.mark.parametrize("component", WEIGHTS)
@pytest.mark.parametrize("kind", ["zip", "pickle"])
def test_pickles_and_archives_are_not_opened(folder: Path, component: str, kind: str) -> None:
    path = _weights_of(folder, component)
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(_Bomb()))
    else:
        path.write_bytes(pickle.dumps(_Bomb()))
    _refused(folder, str(path), "pickle under a safetensors name")
    path.rename(path.with_suffix(".bin"))
    _refused(folder, component, "pickled")


@pytest.mark.parametrize("component", WEIGHTS)
def test_weights_that_are_no_numbers(folder: Path, component: str) -> None:
    path = _weights_of(folder, component)
    tensors = load_file(path)
    name = next(key for key in tensors if key.endswith(WEIGHTS[component].removeprefix("text_model.")))
    plain = tensors[name]
    for value in (math.nan, math.inf, -math.inf):
        tensors[name] = plain.clone()
        tensors[name].view(-1)[-1] = value
        save_file(tensors, path, metadata={"format": "pt"})
        _refused(folder, component, WEIGHTS[component].removeprefix("text_model."), "NaN or infinity")
    for kind, word in ((torch.int32, "I32"), (torch.bool, "BOOL"), (torch.uint8, "U8")):
        save_file({**tensors, name: plain.to(kind)}, path, metadata={"format": "pt"})
        _refused(folder, component, WEIGHTS[component].removeprefix("text_model."), word, "expected floats")


def test_weights_that_do_not_fit_the_dtype(folder: Path) -> None:
    tensors = load_file(folder / UNET)
    tensors["conv_in.weight"][0, 0, 0, 0] = 1e6
    save_file(tensors, folder / UNET)
    Pipeline.from_pretrained(folder, dtype=torch.bfloat16)
    _refused(folder, "conv_in.weight", "does not fit torch.float16", dtype=torch.float16)


OUTSIDE = ("../vae/diffusion_pytorch_model.safetensors", "/etc/passwd", "..\\x", "a/b", "..", ".", "", "x\0y")


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_index_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    index = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"conv_in.weight": name}}))
    with pytest.raises((ValueError, FileNotFoundError), match="outside its folder|missing from") as caught:
        find_weights(tmp_path, "diffusion_pytorch_model")
    assert str(index) in str(caught.value)


@pytest.mark.parametrize("content", ["[]", "{", '{"weight_map": 3}', '{"weight_map": {"x": 3}}', '{"weight_map": {}}'])
def test_an_index_that_is_none(tmp_path: Path, content: str) -> None:
    index = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(content)
    with pytest.raises(ValueError, match="index.json"):
        find_weights(tmp_path, "diffusion_pytorch_model")


@pytest.mark.parametrize("name", ["../vae", "/etc", "unet/../../x", "..", "a\\b", " "])
def test_components_are_folders_of_the_checkpoint(folder: Path, name: str) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: ["diffusers", "AutoencoderKL"]}))
    _refused(folder, "model_index.json", repr(name))


def test_settings_of_a_tokenizer_lead_nowhere_else(folder: Path) -> None:
    path = folder / "tokenizer/tokenizer_config.json"
    checkpoint = Checkpoint(folder, None, torch.float32, torch.device("cpu"))
    expected = load_tokenizer(checkpoint, "tokenizer", "CLIPTokenizer")
    path.write_text(json.dumps({**json.loads(path.read_text()), "vocab_file": "/etc/passwd"}))
    found = load_tokenizer(checkpoint, "tokenizer", "CLIPTokenizer")
    assert found.get_vocab() == expected.get_vocab()


ABSURD: list[tuple[str, dict[str, Any], str]] = [
    ("unet", {"block_out_channels": [10**9, 64, 64]}, "block_out_channels"),
    ("unet", {"block_out_channels": [2**19, 2**20, 2**20]}, "misshaped"),
    ("unet", {"block_out_channels": [2048, 4096, 4096]}, "misshaped"),
    ("unet", {"cross_attention_dim": 10**9}, "cross_attention_dim"),
    ("unet", {"cross_attention_dim": 2**20}, "cross_attention_dim"),
    ("unet", {"layers_per_block": 10**9}, "layers_per_block"),
    ("unet", {"layers_per_block": 1000, "transformer_layers_per_block": 1000}, "far more tensors"),
    ("unet", {"sample_size": 10**12}, "sample_size"),
    ("unet", {"attention_head_dim": 0}, "attention_head_dim"),
    ("unet", {"norm_num_groups": True}, "norm_num_groups"),
    ("unet", {"norm_eps": "small"}, "norm_eps"),
    ("vae", {"block_out_channels": [16] * 1000}, "block_out_channels"),
    ("vae", {"layers_per_block": 1000}, "far more tensors"),
    ("vae", {"latent_channels": 2**20}, "latent_channels"),
    ("vae", {"scaling_factor": math.nan}, "scaling_factor"),
    ("vae", {"scaling_factor": 0}, "scaling_factor"),
    ("scheduler", {"num_train_timesteps": 10**12}, "num_train_timesteps"),
    ("scheduler", {"beta_end": math.nan}, "beta_end"),
    ("scheduler", {"beta_schedule": ["linear"]}, "beta_schedule"),
    ("scheduler", {"_class_name": ["EulerDiscreteScheduler"]}, "class"),
    ("text_encoder", {"hidden_size": 2**20}, "text_encoder"),
    ("text_encoder", {"vocab_size": 10**12}, "text_encoder"),
    ("text_encoder", {"num_hidden_layers": 1000}, "far more tensors"),
    ("text_encoder", {"num_hidden_layers": 10**9}, "num_hidden_layers"),
    ("text_encoder", {"hidden_size": "wide"}, "text_encoder"),
]


@pytest.mark.parametrize("component, change, word", ABSURD, ids=[f"{a}-{next(iter(b))}-{c}" for a, b, c in ABSURD])
def test_configs_beyond_measure(folder: Path, component: str, change: dict[str, Any], word: str) -> None:
    path = next((folder / component).glob("*config.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    _refused(folder, word)


def test_the_memory_that_refusing_takes(folder: Path) -> None:
    """What the worst of the above add to the memory of a process; without the checks they ask for terabytes."""
    cases = [entry for entry in ABSURD if entry[0] in ("unet", "scheduler", "text_encoder")]
    (folder / "cases.json").write_text(json.dumps(cases))
    script = """
import json, resource, sys
from pathlib import Path
from sadaflow import Pipeline
root = Path(sys.argv[1])
Pipeline.from_pretrained(root)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for component, change, _ in json.loads((root / "cases.json").read_text()):
    path = next((root / component).glob("*config.json"))
    plain = path.read_text()
    path.write_text(json.dumps({**json.loads(plain), **change}))
    try:
        Pipeline.from_pretrained(root)
        raise SystemExit(f"taken: {component} {change}")
    except ValueError:
        path.write_text(plain)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    run = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) * 1024 < 64 * 2**20  # kilobytes on Linux; bytes, and so stricter, elsewhere


def test_json_beyond_measure(folder: Path) -> None:
    path = folder / "unet/config.json"
    path.write_text("[" * 100_000)
    _refused(folder, "unet/config.json", "JSON")
    path.write_text('{"x": ' + "9" * 10_000 + "}")
    _refused(folder, "unet/config.json")
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse: a terabyte that the disk does not hold
    _refused(folder, "unet/config.json", "bytes")


def test_unknown_fields_are_named_and_cut_short(folder: Path) -> None:
    path = folder / "unet/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "surprise": "x" * 10**6}))
    _refused(folder, "surprise")


VALUES = (
    None, True, -1, 0, 1, 3, 10**9, 10**30, 0.5, -1e308, math.nan, math.inf, "", "x" * 5000, "../..", "\0", [],
    [[]], {}, [1] * 1000, [None], ["x"], {"x": 1}, [0, 0, 0], [1e9, 1], [[[[1]]]],
)  # fmt: skip


def _mutated(text: str, draw: random.Random) -> str:
    """JSON with a field changed, removed, added or repeated, or with some of its characters wrong."""
    content = json.loads(text)
    field = draw.choice(sorted(content))
    match draw.randrange(6):
        case 0 | 1 | 2:
            content[field] = copy.deepcopy(draw.choice(VALUES))
        case 3:
            del content[field]
            content[field[::-1] if draw.random() < 0.3 else draw.choice(sorted(content))] = draw.choice(VALUES)
        case 4:
            value = content[field]
            content[field] = value * draw.choice((2, 7)) if isinstance(value, list) else [value, value]
        case _:
            at = draw.randrange(len(text))
            return text[:at] + draw.choice(("", "}", "[", "\x00", "9" * 50, '"', text)) + text[at + draw.randrange(9) :]
    return json.dumps(content)


def _only_expected(action: Callable[[], object], what: object) -> bool:
    """Whether `action` was refused; any error but the expected kinds fails the test."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            action()
    except (ValueError, OSError) as error:
        assert str(error).strip(), what
        return True
    except BaseException as error:
        raise AssertionError(f"{type(error).__name__}: {error}\n{what!r}"[:3000]) from error
    return False


@pytest.mark.parametrize(
    "file, mutations",
    [
        ("model_index.json", 150),
        ("unet/config.json", 150),
        ("vae/config.json", 150),
        ("scheduler/scheduler_config.json", 300),
        ("text_encoder/config.json", 60),
        ("tokenizer/tokenizer_config.json", 40),
    ],
)
def test_configs_that_went_wrong_anywhere(folder: Path, file: str, mutations: int) -> None:
    checkpoint = Checkpoint(folder, None, torch.float32, torch.device("cpu"))
    draw, path = random.Random(f"seed of {file}"), folder / file
    plain = path.read_text()

    def unet() -> None:
        config = UNetConfig.from_dict(checkpoint.json(file))
        checkpoint.network("unet", lambda: UNet(config))

    def vae() -> None:
        config = AutoencoderConfig.from_dict(checkpoint.json(file))
        checkpoint.network("vae", lambda: Autoencoder(config), Autoencoder.rename)

    actions: dict[str, Callable[[], object]] = {
        "model_index.json": lambda: checkpoint.expect({"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}),
        "unet/config.json": unet,
        "vae/config.json": vae,
        "scheduler/scheduler_config.json": lambda: from_scheduler_config(checkpoint.json(file), 50),
    }
    build = actions.get(file, lambda: ClipText.build(ClipText.prepare(checkpoint)))

    def action() -> None:
        checkpoint.pending.clear()
        build()
        checkpoint.fill()

    refused = 0
    for _ in range(mutations):
        text = _mutated(plain, draw)
        path.write_text(text)
        refused += _only_expected(action, text)
    assert refused > mutations // 10
    path.write_text(plain)
    action()


def test_headers_that_went_wrong_anywhere(folder: Path) -> None:
    draw, path = random.Random("seed of headers"), folder / UNET
    plain = path.read_bytes()
    length = int.from_bytes(plain[:8], "little")
    text, data = plain[8 : 8 + length].decode(), plain[8 + length :]
    refused = 0
    for number in range(300):
        if number % 3:
            header = _mutated(text, draw).encode()
            content = _header(header, data if draw.random() < 0.8 else data[: draw.randrange(len(data))])
        else:
            content = bytearray(plain)
            for _ in range(draw.choice((1, 3, 100))):
                content[draw.randrange(8 + length)] = draw.randrange(256)
        path.write_bytes(content)
        refused += _only_expected(lambda: list(read_headers([path])), number)
    assert refused > 100
