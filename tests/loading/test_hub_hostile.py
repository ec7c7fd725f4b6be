"""A damaged or malicious Hub: every kind of file is verified, and nothing outside the cache is touched."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from sadaflow.loading.hub.cache import RepositoryCache, stays_inside
from sadaflow.loading.hub.locate import (
    locate_checkpoint,
    locate_config,
    locate_file,
    locate_lora,
    locate_parts,
    lora_file,
)
from sadaflow.loading.hub.options import HubOptions
from sadaflow.pipeline.inspection import inspect
from support.hub_server import COMMIT, Fault, HubServer, serve

SCHEDULER = "scheduler/scheduler_config.json"
FETCHES: dict[str, tuple[str, Callable[[HubOptions], object]]] = {
    "index": ("model_index.json", lambda hub: locate_checkpoint("some/model", hub)),
    "weights": ("unet/diffusion_pytorch_model.safetensors", lambda hub: locate_checkpoint("some/model", hub)),
    "component": ("vocab.txt", lambda hub: locate_checkpoint("some/model", hub, marker="config.json")),
    "file": ("one.safetensors", lambda hub: locate_file("some/model/one.safetensors", hub)),
    "lora": ("pytorch_lora_weights.safetensors", lambda hub: locate_lora("some/model", None, hub)),
    "adapter": ("adapter_config.json", lambda hub: locate_lora("some/model", "adapter_model.safetensors", hub)),
    "scheduler": (SCHEDULER, lambda hub: locate_config("some/model", SCHEDULER, hub)),
    "tokenizer": ("tokenizer/vocab.json", lambda hub: locate_parts("some/model", ("tokenizer",), hub)),
    "inspection": (SCHEDULER, lambda hub: inspect("some/model", cache_dir=hub.cache_dir, endpoint=hub.endpoint)),
}
"""What is fetched: the file that is tampered with, and the call that fetches it."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    folder = tmp_path / "outside/repository"
    names = {file for file, _ in FETCHES.values()} | {"adapter_model.safetensors", "config.json"}
    for number, name in enumerate(sorted(names)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"number": number, "text": "x" * 1000}))
    parts = {name: ["diffusers", "Any"] for name in ("unet", "scheduler", "tokenizer")}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "X", **parts}))
    with serve(model=folder) as server:
        yield server


@pytest.fixture
def options(hub: HubServer, tmp_path: Path) -> HubOptions:
    return HubOptions(cache_dir=tmp_path / "inner/cache", endpoint=hub.url)


def _outside(tmp_path: Path) -> dict[str, bytes]:
    """Every file that is not in the cache, with its content."""
    cache = tmp_path / "inner/cache"
    files = (path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(cache))
    return {str(path): path.read_bytes() for path in files}


def _kept(cache: Path, file: str) -> list[Path]:
    return [path for path in cache.rglob("*") if path.as_posix().endswith(f"{COMMIT}/{file}")]


@pytest.mark.parametrize("what", [name for name in FETCHES if name != "inspection"])
def test_every_kind_of_file_is_verified(what: str, hub: HubServer, options: HubOptions, tmp_path: Path) -> None:
    file, fetch = FETCHES[what]
    hub.faults.append(Fault(file, "corrupt"))
    fetch(options)
    published = tmp_path / "outside/repository" / file
    assert [path.read_bytes() for path in _kept(tmp_path / "inner/cache", file)] == [published.read_bytes()]
    other = replace(options, cache_dir=tmp_path / "inner/cache/other")
    hub.faults.append(Fault(file, "corrupt", times=2))
    with pytest.raises(OSError, match=f"damaged in 2 downloads.*{Path(file).name}"):
        fetch(other)
    assert not _kept(tmp_path / "inner/cache/other", file)


@pytest.mark.parametrize("etag", ["../../../secret", "../blobs/../../../../secret", "..", "a/b", "..\\secret", "{}"])
@pytest.mark.parametrize("what", FETCHES)
def test_headers_are_no_part_of_a_path(
    what: str, etag: str, hub: HubServer, options: HubOptions, tmp_path: Path
) -> None:
    file, fetch = FETCHES[what]
    for folder in (tmp_path, tmp_path / "inner", tmp_path / "inner/cache"):
        (folder / "secret").parent.mkdir(parents=True, exist_ok=True)
        (folder / "secret").write_text("do not touch")
    hub.repos["some/model"].etags[file] = etag.format(tmp_path / "secret")
    before = _outside(tmp_path)
    with suppress(ValueError):  # an inspection goes on to read weights, which these are not
        fetch(options)
    published = (tmp_path / "outside/repository" / file).read_bytes()
    assert [path.read_bytes() for path in _kept(tmp_path / "inner/cache", file)] == [published]
    assert _outside(tmp_path) == before
    assert (tmp_path / "inner/cache/secret").read_text() == "do not touch"


@pytest.mark.parametrize("where", ["snapshots", "blobs", "refs", ".locks", "unet", "lock", "incomplete"])
def test_nothing_is_written_through_a_link(where: str, hub: HubServer, options: HubOptions, tmp_path: Path) -> None:
    """Links that lie in the cache before anything is downloaded; only that of the blobs may be the user's own."""
    target, root = tmp_path / "target", tmp_path / "inner/cache/models--some--model"
    target.mkdir()
    (target / "kept").write_text("do not touch")
    digest = hub.digest("some/model", SCHEDULER)
    link = {
        ".locks": root.parent / ".locks",
        "unet": root / "snapshots" / COMMIT / "unet",
        "lock": root.parent / ".locks" / root.name,
        "incomplete": root / "blobs" / f"{digest}.incomplete",
    }.get(where, root / where)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target / "kept" if where == "incomplete" else target)
    if where in ("blobs", "incomplete"):
        locate_config("some/model", SCHEDULER, options)
    else:
        with pytest.raises(ValueError, match="leads out of the cache"):
            locate_checkpoint("some/model", options)
    if where != "blobs":
        assert [path.name for path in target.iterdir()] == ["kept"]
    assert (target / "kept").read_text() == "do not touch"


@pytest.mark.parametrize(
    ("file", "listed", "fetch"),
    [
        ("tokenizer/vocab.json", "tokenizer/..", FETCHES["tokenizer"][1]),
        ("one.safetensors", "..\\secret.safetensors", lambda hub: locate_lora("some/model", None, hub)),
        ("one.safetensors", "C:secret.safetensors", lambda hub: locate_lora("some/model", None, hub)),
    ],
)
def test_no_listed_name_leads_out_of_the_cache(
    file: str, listed: str, fetch: Callable[[HubOptions], Path], hub: HubServer, options: HubOptions, tmp_path: Path
) -> None:
    for name in ("pytorch_lora_weights.safetensors", "adapter_model.safetensors"):
        (tmp_path / "outside/repository" / name).unlink()
    hub.repos["some/model"].listed_as[file] = listed
    before = _outside(tmp_path)
    if listed == "tokenizer/..":
        assert {path.name for path in fetch(options).rglob("*.json")} <= {"model_index.json"}
    else:
        with pytest.raises(ValueError, match="leads out of its folder"):
            fetch(options)
    assert _outside(tmp_path) == before


@pytest.mark.parametrize("commit", ["../../../evil", "main", "", "0" * 39])
def test_the_commit_is_a_commit(commit: str, hub: HubServer, options: HubOptions, tmp_path: Path) -> None:
    hub.repos["some/model"].commit = commit
    with pytest.raises(ValueError, match="not a commit id"):
        locate_checkpoint("some/model", options)
    assert not (tmp_path / "inner").exists()


def test_a_link_out_of_the_cache_is_neither_read_nor_followed(
    hub: HubServer, options: HubOptions, tmp_path: Path
) -> None:
    root = locate_checkpoint("some/model", options)
    secret = tmp_path / "secret.json"
    secret.write_bytes((root / SCHEDULER).read_bytes())  # even if it is what was expected
    (root / SCHEDULER).unlink()
    (root / SCHEDULER).symlink_to(secret)
    with pytest.raises(ValueError, match="leads out of the cache"):
        locate_checkpoint("some/model", replace(options, local_files_only=True))
    assert locate_checkpoint("some/model", options) == root
    assert (root / SCHEDULER).resolve().is_relative_to(tmp_path / "inner/cache") and secret.exists()


def test_a_damaged_blob_that_leads_out_is_unlinked_alone(hub: HubServer, options: HubOptions, tmp_path: Path) -> None:
    root = locate_checkpoint("some/model", options)
    blob, secret = (root / SCHEDULER).resolve(), tmp_path / "secret.json"
    secret.write_text("other content")
    blob.unlink()
    blob.symlink_to(secret)
    locate_checkpoint("some/model", options)
    assert secret.read_text() == "other content" and not blob.is_symlink()
    assert blob.read_bytes() == (tmp_path / "outside/repository" / SCHEDULER).read_bytes()


def test_a_repository_linked_to_another_disk_is_used(hub: HubServer, options: HubOptions, tmp_path: Path) -> None:
    root = locate_checkpoint("some/model", options)
    moved = tmp_path / "disk/model"
    moved.parent.mkdir()
    folder = root.parent.parent.rename(moved)
    (tmp_path / "inner/cache" / root.parent.parent.name).symlink_to(folder)
    hub.requests.clear()
    assert locate_checkpoint("some/model", options) == root
    assert locate_checkpoint("some/model", replace(options, local_files_only=True)) == root
    assert not hub.fetched()


def test_a_revision_is_not_a_path(hub: HubServer, options: HubOptions) -> None:
    for revision in ("../../../../secret", "/etc/passwd", "a/../../b"):
        with pytest.raises(ValueError, match="not a branch, tag or commit"):
            locate_checkpoint("some/model", replace(options, revision=revision, local_files_only=True))


def test_a_lora_comes_with_its_settings_and_without_other_files(hub: HubServer, options: HubOptions) -> None:
    file = locate_lora("some/model", "adapter_model.safetensors", options)
    assert {path.name for path in file.parent.iterdir()} == {"adapter_model.safetensors", "adapter_config.json"}
    hub.requests.clear()
    assert locate_lora("some/model/adapter_model.safetensors", None, options) == file
    assert not hub.fetched()


def test_the_file_of_a_lora_is_chosen_by_name() -> None:
    usual = ["a.safetensors", "pytorch_lora_weights.safetensors", "unet/model.safetensors"]
    assert lora_file(usual, None, "it") == usual[1]
    assert lora_file(usual[::2], None, "it") == usual[0]
    assert lora_file(usual, "unet/model.safetensors", "it") == usual[2]
    for names in ([], ["a.safetensors", "b.safetensors"], ["unet/model.safetensors"]):
        with pytest.raises(ValueError, match="several safetensors files or none.*weight_name="):
            lora_file(names, None, "it")
    with pytest.raises(FileNotFoundError, match="it has no c.safetensors"):
        lora_file(usual, "c.safetensors", "it")
    with pytest.raises(ValueError, match="leads out of it"):
        lora_file(usual, "../a.safetensors", "it")


def test_names_that_stay_inside() -> None:
    for name in ("a.json", "unet/a.json", "a..b", "...", "ü/x"):
        assert stays_inside(name)
    for name in ("", "..", "../x", "a/../../x", "/x", "\\x", "C:x", "C:\\x", "a/C:/x", "a\\..\\x", "x\0y"):
        assert not stays_inside(name)


def test_the_cache_is_where_huggingface_hub_has_it(tmp_path: Path) -> None:
    from huggingface_hub import constants

    assert RepositoryCache.of("owner/name", None).root == Path(constants.HF_HUB_CACHE).resolve() / "models--owner--name"
