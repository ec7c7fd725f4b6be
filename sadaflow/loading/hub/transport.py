"""Sends requests to the Hub with huggingface_hub's client. Bodies are bounded, and every wait ends at a stated time."""

import json
import queue
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import huggingface_hub
from huggingface_hub import constants

from .errors import temporary
from .options import HubOptions

Result = TypeVar("Result")


@dataclass(frozen=True)
class Patience:
    """How long the Hub is waited for.

    Attributes:
        reply: Seconds until the headers of a reply are complete.
        body: Seconds until the body of a short reply is complete.
        window: A longer body is given up if `least` bytes do not arrive within so many seconds.
        least: See `window`.
        pauses: Seconds before each further request if the Hub is busy (429, 5xx) and names no pause.
        longest: The longest pause that the Hub may name.
    """

    reply: float = 60.0
    body: float = 60.0
    window: float = 60.0
    least: int = 64 * 1024
    pauses: tuple[float, ...] = (1.0, 2.0, 4.0)
    longest: float = 60.0


PATIENCE: Final = Patience()
LONGEST_REPLY: Final = 32 * 2**20
"""Bytes of the longest reply that is read into memory."""
_LONGEST_ERROR: Final = 64 * 1024


@dataclass(frozen=True)
class Body:
    """The body of a reply.

    Attributes:
        start: Position of its first byte in the file.
        pieces: Its bytes as they arrive, decompressed.
    """

    start: int
    pieces: Iterator[bytes]


def read_reply(url: str, hub: HubOptions, longest: int = LONGEST_REPLY, span: str | None = None) -> bytes:
    """Read a short reply.

    Args:
        url: Its address.
        hub: How the Hub is reached.
        longest: The largest number of bytes that is read.
        span: The range of bytes to ask for, as "0-99"; a reply that holds more is cut to `longest`.

    Raises:
        ValueError: If the reply is longer, unless a range was asked for.
        TimeoutError: If it is not complete in time.
        Exception: Whatever huggingface_hub and its client raise; `explained` translates it.
    """
    patience, content = PATIENCE, bytearray()
    with opened(url, hub, span) as body:
        deadline = time.monotonic() + patience.body
        for piece in body.pieces:
            content += piece
            if len(content) > longest:
                if span is None:
                    raise ValueError(f"the reply to {url} has more than {longest} bytes")
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"the reply to {url} was not complete after {patience.body:g} seconds")
    return bytes(content[:longest])


def read_json(url: str, hub: HubOptions) -> Any:
    """Read a reply that holds JSON; raises ValueError if it does not, and what `read_reply` raises."""
    content = read_reply(url, hub)
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        start = content[:60].decode("utf-8", "replace")
        raise ValueError(
            f"the reply to {url} is not JSON ({error}) but begins with {start!r}: is HF_ENDPOINT a Hub, and does the "
            "network let through to it?"
        ) from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def paced(pieces: Iterator[bytes], what: str) -> Iterator[bytes]:
    """Yields the pieces; raises TimeoutError if they arrive too slowly (see `Patience`)."""
    patience = PATIENCE
    begun, received = time.monotonic(), 0
    for piece in pieces:
        received += len(piece)
        now = time.monotonic()
        if now - begun > patience.window:
            if received < patience.least:
                raise TimeoutError(f"{what} stalls: {received} bytes in {now - begun:.0f} seconds")
            begun, received = now, 0
        yield piece


@contextmanager
def opened(url: str, hub: HubOptions, span: str | None = None) -> Iterator[Body]:
    """Context manager of a GET request whose reply has arrived, redirects followed, without its body.

    A busy Hub (429, 5xx) is asked again up to three times, after the pause that it names.

    Args:
        url: Address.
        hub: Gives the token.
        span: The range of bytes to ask for, as "100-".

    Raises:
        Exception: Whatever huggingface_hub and its client raise; `explained` translates it.
        TimeoutError: If there is no reply in time.
    """
    response = patiently(lambda: within(PATIENCE.reply, lambda: _request(url, hub, span), url))
    try:
        pieces = _decompressed(response.iter_raw(), response.headers.get("Content-Encoding", ""), url)
        yield Body(_start(response), pieces)
    finally:
        response.close()


def _request(url: str, hub: HubOptions, span: str | None) -> Any:
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # slow to import

    if isinstance(hub.token, str) and not (hub.token.isascii() and hub.token.isprintable()):
        raise ValueError("token= holds characters that no header can carry; copy it again")
    headers = {**build_hf_headers(token=hub.token), "Accept-Encoding": "identity"}
    if span is not None:
        headers["Range"] = f"bytes={span}"
    client = get_session()
    timeout = (constants.HF_HUB_ETAG_TIMEOUT, constants.HF_HUB_DOWNLOAD_TIMEOUT, None, None)
    request = client.build_request("GET", url, headers=headers, timeout=timeout)
    response = client.send(request, stream=True, follow_redirects=True)
    if response.status_code in (200, 206):
        return response
    try:
        hf_raise_for_status(_short(response))
        raise ConnectionError(f"the reply to {url} has status {response.status_code}, expected 200")
    finally:
        response.close()


def _short(response: Any) -> Any:
    """A reply that is an error, with the beginning of its body."""
    body = bytearray()
    for piece in response.iter_raw():
        body += piece
        if len(body) > _LONGEST_ERROR:
            break
    headers = [(name, value) for name, value in response.headers.raw if name.lower() != b"content-encoding"]
    status, request = response.status_code, response.request
    if _is_error_object(bytes(body)):
        return type(response)(status, headers=headers, content=bytes(body), request=request)
    return type(response)(status, headers=headers, request=request)


def _is_error_object(body: bytes) -> bool:
    """Whether the body is an object as the Hub describes its errors; huggingface_hub reads nothing else."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and isinstance(found.get("error", ""), str) and "errors" not in found


def _start(response: Any) -> int:
    """Position in the file of the first byte of a reply; that of a reply to a request without a range is 0."""
    if response.status_code != 206:
        return 0
    unit, _, span = response.headers.get("Content-Range", "").partition(" ")
    first = span.partition("-")[0]
    if unit != "bytes" or not (first.isascii() and first.isdecimal()) or len(first) > 18:
        raise ConnectionError(f"the reply to {response.url} names no range of bytes that it holds")
    return int(first)


def _decompressed(pieces: Iterator[bytes], encoding: str, url: str) -> Iterator[bytes]:
    """The pieces of a body, decompressed in steps of at most 1 MiB, however much they expand to."""
    if encoding.strip().lower() in ("", "identity"):
        yield from pieces
        return
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        raise ConnectionError(f"the reply to {url} is encoded as {encoding[:40]!r}, which was not asked for")
    decoder = zlib.decompressobj(wbits=47)  # the header tells gzip from zlib
    try:
        for piece in pieces:
            while piece:
                yield decoder.decompress(piece, 2**20)
                piece = decoder.unconsumed_tail
    except zlib.error as error:
        raise ConnectionError(f"the reply to {url} is not {encoding}: {error}") from error


def within(seconds: float, action: Callable[[], Result], what: str) -> Result:
    """The result of `action`, which runs in a thread of its own.

    Args:
        seconds: Time limit. Sockets have a limit for each read only, which a server that sends a byte now and then
            never reaches.
        action: The function. It is abandoned, but not stopped, after the limit.
        what: What does not reply, for the error.

    Raises:
        TimeoutError: If it does not return in time.
    """
    results: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((True, action()))
        except BaseException as error:  # noqa: BLE001 - raised by the caller
            results.put((False, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        succeeded, result = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no reply from {what} in {seconds:g} seconds") from None
    if not succeeded:
        raise result
    return result


def patiently(ask: Callable[[], Result]) -> Result:
    """Send a request up to four times while the Hub replies that it is busy (429, 5xx), after the pause it names.

    An address that does not respond is not tried again.
    """
    from huggingface_hub import errors  # with an HTTP client, slow to import

    pauses = iter(PATIENCE.pauses)
    while True:
        try:
            return ask()
        except errors.HfHubHTTPError as error:
            pause = next(pauses, None)
            named = error.response.headers.get("Retry-After", "") if pause is not None else ""
            pause = float(named) if named.isascii() and named.isdecimal() else pause
            if pause is None or pause > PATIENCE.longest or not temporary(error):
                raise
        time.sleep(pause)


def file_url(name: str, file: str, commit: str, hub: HubOptions) -> str:
    """Address of a file of repository `name` at a commit."""
    return huggingface_hub.hf_hub_url(name, file, revision=commit, endpoint=hub.endpoint)
