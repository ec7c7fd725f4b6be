"""Faults of a Hub, of the network and of the disk, and what comes of each: the table in docs/loading.md."""

import errno
import gzip
import json
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from sadaflow.loading.hub import transport
from sadaflow.loading.hub.listing import parse_listing
from sadaflow.loading.hub.locate import locate_checkpoint
from sadaflow.loading.hub.options import HubOptions
from support.hub_server import COMMIT, Fault, HubServer, serve

PAGE = Path(__file__).resolve().parents[2] / "docs/loading.md"
API, FILE, WEIGHTS = "api/models/some/model", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"
AGAIN, WHOLE = "downloaded again", "downloaded"


def reply(content: bytes, path: str = API, status: int = 200, **headers: str) -> list[Fault]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return [Fault(path, "reply", 99, status, content=content, headers=named)]


def listing(**changes: Any) -> bytes:
    return json.dumps({"sha": COMMIT, "siblings": [], **changes}).encode()


@dataclass(frozen=True)
class Case:
    """A row of the table: what is wrong, what the server does, and what comes of it: `WHOLE`, `AGAIN`, or the error."""

    what: str
    faults: list[Fault]
    outcome: str
    kind: type[Exception] | None = None
    words: str = ""


CASES = [
    Case("a bit of a file is wrong once", [Fault(WEIGHTS, "corrupt")], AGAIN),
    Case("a bit of a file is wrong twice", [Fault(WEIGHTS, "corrupt", 2)], "names the file", OSError, WEIGHTS),
    Case("a file is shorter or longer than listed once", [Fault(FILE, "short"), Fault(WEIGHTS, "long")], AGAIN),
    Case("an endless file", [Fault(WEIGHTS, "long", 99)], "names the file", OSError, WEIGHTS),
    Case("the connection is cut", [Fault(WEIGHTS, "drop", 3)], "the rest is asked for"),
    Case("another range than the rest is sent", [Fault(WEIGHTS, "drop"), Fault(WEIGHTS, "range")], AGAIN),
    Case("a file stalls", [Fault(WEIGHTS, "stall", 99)], "names the file, after 10 s", ConnectionError, WEIGHTS),
    Case("a file drips", [Fault(WEIGHTS, "drip", 99)], "names the file, after 60 s", ConnectionError, WEIGHTS),
    Case("headers drip", [Fault(API, "drip headers", 99)], "names the address, after 60 s", ConnectionError,
         "no reply"),
    Case("a cut listing", reply(listing()[:-5]), "says that it is not JSON", ValueError, "not JSON"),
    Case("a compressed bomb in place of the listing", reply(gzip.compress(bytes(2**26)), Content_Encoding="gzip"),
         "names the limit of 32 MiB", ValueError, "more than"),
    Case("an unknown compression", reply(b"x", Content_Encoding="br"), "names it", ConnectionError, "'br'"),
    Case("an HTML page in place of the listing", reply(b"<html>login"), "quotes it", ValueError, "<html>login"),
    Case("an empty listing", reply(b""), "says that it is not JSON", ValueError, "not JSON"),
    Case("deep nesting", reply(b"[" * 100_000), "says that it is not JSON", ValueError, "not JSON"),
    Case("NaN in a listing", reply(b'{"sha": NaN}'), "says that it is not JSON", ValueError, "not JSON"),
    Case("a listing of another type", reply(b"[1]"), "names the type", ValueError, "is a list"),
    Case("a listing without a commit", reply(b"{}"), "says so", ValueError, "as the commit"),
    Case("a file of another type", reply(listing(siblings=[3])), "names the type", ValueError, "a file is a int"),
    Case("a size that is none", reply(listing(siblings=[{"rfilename": "a", "size": 1e999}])), "names the file",
         ValueError, "not JSON"),
    Case("a negative size", reply(listing(siblings=[{"rfilename": "a", "size": -1}])), "names the file", ValueError,
         "the size of 'a'"),
    Case("a file twice", reply(listing(siblings=[{"rfilename": "a"}] * 2)), "says so", ValueError, "twice"),
    Case("redirects in a circle", reply(b"", "model_index.json", 302, Location="model_index.json"), "says so",
         ConnectionError, "redirect"),
    Case("a redirect to a file", reply(b"", "model_index.json", 302, Location="file:///etc/passwd"), "says so",
         ConnectionError, "protocol"),
    Case("status 204", reply(b"", "model_index.json", 204), "names the status", ConnectionError, "204"),
    Case("an error with an endless body", reply(b"x" * 10_000_000, status=404), "is that of the status",
         FileNotFoundError, "no repository"),
    Case("an error of another shape", reply(b'["x"]', status=500), "names the status", ConnectionError, "HTTP 500"),
    Case("the repository moves to another commit", [Fault("model_index.json", "change")],
         "says that it was changed", FileNotFoundError, "changed while it was downloaded"),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    (root / "unet").mkdir(parents=True)
    (root / "model_index.json").write_text(json.dumps({"unet": ["diffusers", "UNet2DConditionModel"]}))
    (root / FILE).write_text(json.dumps({"text": "x" * 3000}))
    (root / WEIGHTS).write_bytes(random.Random(0).randbytes(300_000))
    return root


@pytest.fixture
def hub(folder: Path) -> Iterator[HubServer]:
    with serve(model=folder) as server:
        yield server


@pytest.fixture
def options(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubOptions:
    """Waits are a hundredth of what they are, and tests need not wait either."""
    quick = transport.Patience(reply=0.6, body=2.0, window=0.5, least=64 * 1024, pauses=(0.01, 0.01, 0.01))
    monkeypatch.setattr(transport, "PATIENCE", quick)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    return HubOptions(cache_dir=tmp_path / "cache", endpoint=hub.url)


def _same(root: Path, folder: Path) -> bool:
    names = ("model_index.json", FILE, WEIGHTS)
    return all((root / name).read_bytes() == (folder / name).read_bytes() for name in names)


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_every_fault_has_its_outcome(case: Case, hub: HubServer, folder: Path, options: HubOptions) -> None:
    hub.faults += [replace(fault) for fault in case.faults]
    begun = time.monotonic()
    if case.kind is None:
        assert _same(locate_checkpoint("some/model", options), folder)
        assert not any(fault.times for fault in hub.faults)
    else:
        with pytest.raises(case.kind) as caught:
            locate_checkpoint("some/model", options)
        message = str(caught.value)
        assert case.words in message and "some/model" in message and len(message) < 1000, message
        assert type(caught.value).__module__ == "builtins"
    assert time.monotonic() - begun < 20
    outside = [path for path in folder.parent.rglob("*") if path.is_file() and path.parts[len(folder.parent.parts)]
               not in ("cache", "repository")]  # fmt: skip
    assert outside == []
    hub.faults.clear()
    hub.repos["some/model"].commit = COMMIT
    assert _same(locate_checkpoint("some/model", options), folder)  # the next try heals


def test_the_table_is_that_of_the_tests() -> None:
    rows = [f"| {case.what} | {case.outcome} |" for case in CASES]
    assert "\n".join(rows) in PAGE.read_text("utf-8")


def test_a_download_cut_at_any_byte_goes_on(
    hub: HubServer, folder: Path, options: HubOptions, tmp_path: Path
) -> None:
    """What a killed process leaves: any beginning of the file, or bytes that are not its beginning."""
    content, draw = (folder / WEIGHTS).read_bytes(), random.Random(1)
    lengths = [0, 1, len(content) - 1, len(content), *(draw.randrange(len(content)) for _ in range(8))]
    for number, length in enumerate(lengths):
        for kept in (content[:length], b"?" * length, content + b"more"):
            cache = replace(options, cache_dir=tmp_path / f"cache/{number}")
            blobs = tmp_path / f"cache/{number}/models--some--model/blobs"
            blobs.mkdir(parents=True, exist_ok=True)
            for name in os.listdir(blobs):
                (blobs / name).unlink()
            (blobs / f"{hub.digest('some/model', WEIGHTS)}.incomplete").write_bytes(kept)
            assert _same(locate_checkpoint("some/model", cache), folder)


def _fetch(options: HubOptions) -> None:
    locate_checkpoint("some/model", options)


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_processes_share_a_cache(hub: HubServer, folder: Path, options: HubOptions) -> None:
    """Four at once, one of which is killed; each file is downloaded once, and what the killed one left is used."""
    hub.faults.append(Fault(WEIGHTS, "drip"))
    fork = multiprocessing.get_context("fork")
    first, *others = [fork.Process(target=_fetch, args=(options,)) for _ in range(4)]
    first.start()
    while hub.faults[0].times:
        time.sleep(0.005)
    for child in others:
        child.start()
    first.kill()
    for child in others:
        child.join(60)
        assert child.exitcode == 0
    assert _same(locate_checkpoint("some/model", options), folder)
    assert hub.fetched() == {"model_index.json": 1, FILE: 1, WEIGHTS: 2}
    assert not list((folder.parent / "cache").rglob("*.incomplete"))


@pytest.mark.parametrize("what", ["full", "read-only"])
def test_a_cache_that_cannot_be_written_is_named(
    what: str, hub: HubServer, folder: Path, options: HubOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = errno.ENOSPC if what == "full" else errno.EROFS
    with monkeypatch.context() as broken:
        if what == "full":
            broken.setattr(transport, "paced", None)
            broken.setattr("sadaflow.loading.hub.blobs.paced", _full)
        else:
            broken.setattr(Path, "mkdir", _refuse(code))
        with pytest.raises(OSError) as caught:
            locate_checkpoint("some/model", options)
        assert caught.value.errno == code and "cache" in str(caught.value) and os.strerror(code) in str(caught.value)
    assert _same(locate_checkpoint("some/model", options), folder)
    with monkeypatch.context() as broken:  # a cache that holds everything need not be written
        for name in ("mkdir", "write_text", "touch", "unlink"):
            broken.setattr(Path, name, _refuse(code))
        assert _same(locate_checkpoint("some/model", options), folder)
        hub.repos["some/model"].revisions = ("main", "v2")
        assert _same(locate_checkpoint("some/model", replace(options, revision="v2")), folder)


def _full(pieces: Iterator[bytes], what: str) -> Iterator[bytes]:
    yield next(pieces)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _refuse(code: int) -> Callable[..., None]:
    def refuse(self: Path, *arguments: Any, **named: Any) -> None:
        raise OSError(code, os.strerror(code), str(self))

    return refuse


def test_a_file_damaged_in_the_cache_is_named_offline(hub: HubServer, folder: Path, options: HubOptions) -> None:
    root = locate_checkpoint("some/model", options)
    blob = (root / FILE).resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    with pytest.raises(OSError, match=rf"{FILE} is damaged; connect to the Hub"):
        locate_checkpoint("some/model", replace(options, local_files_only=True))
    assert _same(locate_checkpoint("some/model", options), folder)


def test_a_token_that_no_header_can_carry_is_not_shown(options: HubOptions) -> None:
    for token in ("hf_a\nb", "hf_ü", "hf_\x00"):
        with pytest.raises(ValueError, match="token= holds characters") as caught:
            locate_checkpoint("some/model", replace(options, token=token))
        assert token not in str(caught.value)


def test_listings_that_are_mutated_anywhere() -> None:
    """Any change of a listing gives a listing or a ValueError with the repository's name."""
    draw, refused = random.Random(2), 0
    values = (None, True, -1, 0, 1.5, 10**30, "", "x" * 5000, "../..", "\0", [], {}, [[]], {"x": 1}, "a\nb")
    for _ in range(600):
        files: list[Any] = [{"rfilename": f"{i}.json", "size": i, "blobId": "0" * 40} for i in range(3)]
        found: dict[str, Any] = {"sha": COMMIT, "siblings": files}
        target = draw.choice([found, *files, files])
        if isinstance(target, list):
            target[draw.randrange(3)] = draw.choice(values)
        else:
            target[draw.choice([*target, "lfs", "size"])] = draw.choice(values)
        try:
            commit, listed = parse_listing(found, "some/model")
            assert commit == COMMIT and all(isinstance(file.name, str) for file in listed)
        except ValueError as error:
            refused += 1
            assert "'some/model'" in str(error) and len(str(error)) < 400
    assert refused > 100
