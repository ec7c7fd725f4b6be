"""A small server on loopback with the part of the Hub's protocol that downloads use."""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secret"


@dataclass
class Repo:
    """A folder served under an id.

    Attributes:
        folder: The files.
        commit: The commit that all `revisions` are at.
        revisions: Branches and tags.
        gated: Whether a token must be accepted first.
        private: Whether the repository is hidden without a token.
        etags: False ETags by file name.
        listed_as: False names in listings by file name.
    """

    folder: Path
    commit: str = COMMIT
    revisions: tuple[str, ...] = ("main",)
    gated: bool = False
    private: bool = False
    etags: dict[str, str] = field(default_factory=dict)
    listed_as: dict[str, str] = field(default_factory=dict)

    def files(self) -> dict[str, Path]:
        return {str(path.relative_to(self.folder)): path for path in sorted(self.folder.rglob("*")) if path.is_file()}


@dataclass
class Fault:
    """What goes wrong with requests whose path ends in `path`, `times` times: see `HubServer`."""

    path: str
    kind: str
    times: int = 1
    status: int = 503
    retry_after: str = "0"
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class HubServer:
    """Repositories by id, faults to come, and a record of the requests.

    Kinds of fault: "status" answers with `status`; "drop" closes the connection half-way through the content;
    "corrupt" flips a byte of it; "short" and "long" send less or more and say so; "redirect" sends the client to `cdn`;
    "reply" answers with `status`, `headers` and `content`; "drip" sends a byte now and then, "drip headers" even of the
    headers; "stall" sends half and then nothing; "change" moves the repository to another commit; "range" answers with
    another range than asked for.
    """

    repos: dict[str, Repo] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    cdn: str = ""
    url: str = ""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)

    def digest(self, repo: str, file: str) -> str:
        """Digest of a file as the listing gives it."""
        return digest(self.repos[repo].files()[file].read_bytes(), is_large(file))

    def count(self, method: str, ending: str) -> int:
        return sum(1 for verb, path, _ in self.requests if verb == method and path.endswith(ending))

    def fetched(self) -> Counter[str]:
        """How often the content of each file was asked for."""
        paths = (path.partition("/resolve/")[2] for verb, path, _ in self.requests if verb == "GET")
        return Counter(path.partition("/")[2] for path in paths if path)

    def strike(self, path: str, *kinds: str) -> Fault | None:
        """The fault that befalls a request of `path`, if any of these kinds does."""
        for fault in self.faults:
            if fault.times and fault.kind in kinds and path.endswith(fault.path):
                fault.times -= 1
                return fault
        return None


def digest(content: bytes, large: bool) -> str:
    """SHA-256 of a file kept in LFS, git object id of another."""
    if large:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin"))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = urlsplit(self.path).path  # quoted: a revision may contain a slash
        self.hub.requests.append((self.command, path, {key.lower(): value for key, value in self.headers.items()}))
        if fault := self.hub.strike(path, "status"):
            return self._send(fault.status, b"busy", {"Retry-After": fault.retry_after})
        if fault := self.hub.strike(path, "reply"):
            return self._send(fault.status, fault.content, fault.headers)
        if self.hub.strike(path, "drip headers"):
            return self._drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000)
        if fault := self.hub.strike(path, "change"):
            for repo in self.hub.repos.values():
                repo.commit = repo.commit[::-1]
        if path.startswith("/api/models/"):
            name, _, rest = path.removeprefix("/api/models/").partition("/")
            owner, (name, _, rest) = name, rest.partition("/")
            verb, _, revision = rest.partition("/")
            return self._api(f"{owner}/{name}", verb, unquote(revision) or "main")
        name, _, rest = path.removeprefix("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        return self._file(name, unquote(revision), unquote(file), body)

    def _repo(self, name: str, revision: str) -> Repo | None:
        """The repository, if the client may see it; else None after an answer that says why not."""
        repo = self.hub.repos.get(name)
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repo is None or (repo.private and not known):
            self._send(404 if known else 401, b"", {"X-Error-Code": "RepoNotFound"})
        elif self.headers.get("Authorization") and not known:
            self._send(401, b"", {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif repo.gated and not known:
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        elif revision not in (*repo.revisions, repo.commit):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            return repo
        return None

    def _api(self, name: str, verb: str, revision: str) -> None:
        repo = self._repo(name, revision)
        if repo is None:
            return
        entries, siblings = [], []
        for name_on_disk, path in repo.files().items():
            file = repo.listed_as.get(name_on_disk, name_on_disk)
            content, large = path.read_bytes(), is_large(file)
            sha = digest(content, large)
            lfs = {"sha256": sha, "oid": sha, "size": len(content), "pointerSize": 134} if large else None
            sibling = {"rfilename": file, "size": len(content), "blobId": sha[:40]}
            entry = {"type": "file", "path": file, "size": len(content), "oid": sha[:40]}
            siblings.append(sibling | ({"lfs": lfs} if lfs else {}))
            entries.append(entry | ({"lfs": lfs} if lfs else {}))
        info = {"id": name, "modelId": name, "sha": repo.commit, "private": repo.private, "siblings": siblings}
        self._send(200, json.dumps(entries if verb == "tree" else info).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str, revision: str, file: str, body: bool) -> None:
        repo = self._repo(name, revision)
        if repo is None:
            return
        path = repo.files().get(file)
        headers = {"X-Repo-Commit": repo.commit}
        if path is None:
            return self._send(404, b"", headers | {"X-Error-Code": "EntryNotFound"})
        content, large = path.read_bytes(), is_large(file)
        headers["ETag"] = f'"{repo.etags.get(file, digest(content, large))}"'
        if self.hub.cdn and large:
            headers |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": headers["ETag"]}
            return self._send(302, b"", headers | {"Location": f"{self.hub.cdn}/{name}/resolve/{revision}/{file}"})
        if fault := self.hub.strike(file, "redirect"):
            return self._send(307, b"", {"Location": f"/{name}/resolve/{revision}/{file}"})
        start, status = 0, 200
        if span := self.headers.get("Range"):
            first, _, last = span.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or len(content)), len(content) - 1)
            status, headers["Content-Range"] = 206, f"bytes {start}-{end}/{len(content)}"
            content = content[: end + 1]
        fault = self.hub.strike(file, "drop", "corrupt", "short", "long", "drip", "stall", "range") if body else None
        sent = content[start:]
        if fault and fault.kind == "corrupt":
            sent = sent[:-1] + bytes([sent[-1] ^ 1])
        elif fault and fault.kind == "short":
            sent = sent[: len(sent) // 2]
        elif fault and fault.kind == "long":
            sent += b"more"
        elif fault and fault.kind == "range":
            status, headers["Content-Range"] = 206, f"bytes 7-{len(content) - 1}/{len(content)}"
        elif fault and fault.kind in ("drip", "stall"):
            head = f"HTTP/1.1 {status} OK\r\nContent-Length: {len(sent)}\r\n\r\n".encode()
            half = len(sent) // 2 if fault.kind == "stall" else 0
            return self._drip(sent[half:], head + sent[:half], pause=60 if fault.kind == "stall" else 0.02)
        self._send(status, sent, headers, drop=fault is not None and fault.kind == "drop", length=len(sent))

    def _drip(self, content: bytes, first: bytes = b"", pause: float = 0.02) -> None:
        self.close_connection = True
        try:
            self.wfile.write(first)
            for byte in content:
                self.wfile.flush()
                if self.hub.closed.wait(pause):
                    return
                self.wfile.write(bytes([byte]))
        except OSError:  # the client has gone
            pass

    def _send(
        self, status: int, content: bytes, headers: dict[str, str], drop: bool = False, length: int | None = None
    ) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if drop else content)
        if drop:
            self.wfile.flush()
            self.close_connection = True


@contextmanager
def serve(**repos: Repo | Path) -> Iterator[HubServer]:
    """A running server with repositories named `some/<keyword>`."""
    hub = HubServer({f"some/{key}": repo if isinstance(repo, Repo) else Repo(repo) for key, repo in repos.items()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.closed.set()
        server.shutdown()
        server.server_close()
        thread.join()
