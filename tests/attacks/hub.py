"""Attacks by a Hub on loopback: what it sends is wrong, late, cut, too much or of another shape."""

import json
import random
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants

from sadaflow.loading.hub import locate
from sadaflow.loading.hub.options import HubOptions
from support.hub_server import COMMIT, Fault, HubServer, serve

from .outcome import WITHSTOOD, Attack, Attempt, Outcome, contents, judged

FILES = {
    "model_index.json": json.dumps({"unet": ["diffusers", "UNet2DConditionModel"]}).encode(),
    "unet/config.json": json.dumps({"text": "x" * 2000}).encode(),
    "unet/diffusion_pytorch_model.safetensors": bytes(range(256)) * 400,
    "pytorch_lora_weights.safetensors": bytes(range(256)) * 8,
}
KINDS = ("corrupt", "short", "long", "drop", "redirect", "range", "status", "reply", "change", "stall")
REPLIES = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"<html>",
    b"[" * 99999,
    b"\xff",
    b'{"sha": 3}',
    b'{"sha": "' + b"0" * 40 + b'", "siblings": 3}',
    json.dumps({"sha": COMMIT, "siblings": [{"rfilename": "../../../evil", "size": 3, "blobId": "0" * 40}]}).encode(),
    json.dumps({"sha": COMMIT, "siblings": [{"rfilename": "model_index.json", "size": -1}]}).encode(),
    json.dumps({"sha": "../../../../evil", "siblings": []}).encode(),
    b'{"error": ["x"], "errors": [1]}',
)
HEADERS: tuple[dict[str, str], ...] = (
    {},
    {"Content-Encoding": "gzip"},
    {"Content-Encoding": "zzz"},
    {"Location": "file:///etc/passwd"},
    {"Location": "http://127.0.0.1:9/x"},
    {"ETag": '"../../../evil"', "X-Repo-Commit": "../../../evil"},
    {"X-Error-Code": "GatedRepo"},
    {"Retry-After": "²"},
    {"Content-Range": "bytes x"},
)
ETAGS = ("../../../evil", "/tmp/evil", "..", "a/b", "", "\\..\\evil", "x" * 300)


def quick_waits() -> None:
    """Waits of a hundredth of the usual length."""
    huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT = 0.3  # type: ignore[assignment]
    huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT = 0.5  # type: ignore[assignment]
    try:
        from sadaflow.loading.hub import transport
    except ImportError:  # a version of before
        from sadaflow.loading.hub import download

        download._PAUSES = (0.01, 0.01, 0.01)
        return
    transport.PATIENCE = replace(transport.PATIENCE, reply=1.0, body=2.0, window=0.5, pauses=(0.01, 0.01, 0.01))  # type: ignore[misc]


def _faults(draw: random.Random) -> list[Fault]:
    paths = (*FILES, "api/models/some/model")
    return [
        Fault(
            draw.choice(paths),
            draw.choice(KINDS),
            draw.choice((1, 1, 2, 99)),
            draw.choice((200, 204, 206, 301, 302, 404, 416, 429, 500, 503)),
            draw.choice(("0", "²", "x", "99999999")),
            draw.choice(REPLIES),
            draw.choice(HEADERS),
        )
        for _ in range(draw.choice((1, 1, 2)))
    ]


def _spoil_cache(cache: Path, secret: Path, draw: random.Random) -> None:
    """Edits a cache as another user, or a failing disk, may."""
    found = sorted(path for path in cache.rglob("*") if path.is_file() or path.is_symlink())
    for path in draw.sample(found, min(len(found), 2)):
        match draw.randrange(5):
            case 0:
                path.unlink()
                path.symlink_to(secret)
            case 1 if path.is_file():
                path.resolve().write_bytes(b"?" * draw.randrange(3000))
            case 2:
                path.unlink()
            case 3:
                path.unlink()
                path.mkdir()
            case _:
                path.unlink()
                path.write_text("../../../../evil")


def _hub(shared: Path) -> Attempt:
    repository = shared / "repository"
    for name, content in FILES.items():
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_bytes(content)

    def attempt(seed: int, place: Path) -> Outcome:
        quick_waits()
        draw = random.Random(seed)
        secret, cache = place / "secret", place / "inner/cache"
        secret.write_text("secret")
        with serve(model=repository) as hub:
            options = HubOptions(cache_dir=cache, endpoint=hub.url)
            if seed % 3 == 0:
                locate.locate_checkpoint("some/model", options)
                _spoil_cache(cache, secret, draw)
            outcome = _attacked(hub, options, draw, place)
            if outcome is not WITHSTOOD:
                return outcome
            evil = [path for path in place.rglob("*") if "evil" in path.name]
            outside = {path for path in contents(place) if not Path(path).is_relative_to(cache)}
            if evil or outside != {str(secret)} or secret.read_text() != "secret":
                return Outcome("touched outside", f"{evil} {outside}")
        return WITHSTOOD

    return attempt


def _attacked(hub: HubServer, options: HubOptions, draw: random.Random, place: Path) -> Outcome:
    hub.faults += _faults(draw)
    if draw.random() < 0.3:
        hub.repos["some/model"].etags[draw.choice(list(FILES))] = draw.choice(ETAGS)
    roots: list[Path] = []
    whole = draw.random() < 0.7
    asked = [name for name in FILES if name.startswith("pytorch_lora") != whole]

    def action() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if whole:
                roots.append(locate.locate_checkpoint("some/model", options))
            else:
                roots.append(locate.locate_lora("some/model", None, options).parent)

    begun = time.monotonic()
    failed = judged(action, "some/model", str(place))
    if time.monotonic() - begun > 15:
        return Outcome("hung", f"{time.monotonic() - begun:.0f} s for {hub.faults}")
    if failed is not None:
        return failed if failed is WITHSTOOD else Outcome(failed.kind, f"{failed.note} of {_shown(hub.faults)}")
    for name in asked:
        path = roots[0] / name
        if path.is_file() and path.read_bytes() != FILES[name]:  # what an incomplete cache lacks, loading names
            return Outcome("wrong result", f"{name} differs after {_shown(hub.faults)}")
    return WITHSTOOD


def _shown(faults: Any) -> str:
    return repr(faults)[:600]


ATTACKS = (
    Attack("Hub", "replies that are wrong, cut, late, too long or of another shape, and edited caches", _hub, 60),
)
