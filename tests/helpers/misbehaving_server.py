"""A web server on this machine that misbehaves on demand, and a Hugging Face Hub made of it."""

import dataclasses
import hashlib
import re
import socket
import struct
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c" * 40


@dataclasses.dataclass
class Served:
    """An answer: what it holds, and what goes wrong with it.

    Attributes:
        ranges: Whether parts of the body can be asked for.
        length: Whether the answer says how long it is; "chunked" where it says so as it goes.
        cuts: After how many bytes the answers break off, one after the other; later ones are whole.
        stall: Where an answer breaks off, it waits for this before it closes the connection.
        reset: Whether an answer that breaks off resets the connection instead of closing it.
    """

    body: bytes = b""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    status: int = 200
    ranges: bool = True
    length: bool | str = True
    cuts: list[int] = dataclasses.field(default_factory=list)
    stall: threading.Event | None = None
    reset: bool = False


@dataclasses.dataclass
class Request:
    """What was asked for, and what was answered."""

    method: str
    path: str
    range: str | None
    if_range: str | None
    status: int = 0
    sent: int = 0


class Server(ThreadingHTTPServer):
    """Serves `files`, by their paths, and remembers the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, Served] = {}
        self.requests: list[Request] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def serve(self, path: str, body: bytes = b"", **behaviour) -> Served:
        """Adds a file, or replaces it."""
        self.files[path] = Served(body, **behaviour)
        return self.files[path]

    def url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def find(self, path: str) -> Served:
        return self.files.get(path, Served(status=404))

    def close(self) -> None:
        """Stops answering: connections are refused from now on."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
            self.server_close()

    def handle_error(self, request, client_address) -> None:
        """Says nothing: clients that go away are part of the tests."""


class Hub(Server):
    """Answers as the Hugging Face Hub does, for the repositories that were added to it."""

    commit = COMMIT

    def add(self, repository: str, files: dict[str, bytes], revision: str = "main") -> None:
        """Adds large files to a repository, whose ETag is their SHA-256."""
        for name, body in files.items():
            digest = hashlib.sha256(body).hexdigest()
            self.serve(
                f"/{repository}/resolve/{revision}/{name}",
                body,
                headers={"ETag": f'"{digest}"', "X-Repo-Commit": self.commit},
            )

    def file(self, repository: str, name: str, revision: str = "main") -> Served:
        return self.files[f"/{repository}/resolve/{revision}/{name}"]

    def asked(self, method: str = "GET") -> list[str]:
        """Names of the files that were asked for."""
        return [
            request.path.rpartition("/")[2]
            for request in self.requests
            if request.method == method and "/resolve/" in request.path
        ]

    def find(self, path: str) -> Served:
        path = urllib.parse.unquote(path)
        repository, _, rest = path.partition("/resolve/")
        revision = rest.partition("/")[0]
        if path in self.files:
            return self.files[path]
        if not any(known.startswith(f"{repository}/resolve/") for known in self.files):
            return Served(status=404, headers={"X-Error-Code": "RepoNotFound"})
        if not any(known.startswith(f"{repository}/resolve/{revision}/") for known in self.files):
            return Served(status=404, headers={"X-Error-Code": "RevisionNotFound"})
        headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": self.commit}
        return Served(status=404, headers=headers)


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        served = self.server.find(self.path)
        request = Request(self.command, self.path, self.headers["Range"], self.headers["If-Range"])
        self.server.requests.append(request)
        start = _first_byte(served, request)
        request.status = served.status
        if start >= len(served.body) > 0:
            request.status = 416
            served = Served(status=416)
            start = 0
        elif start:
            request.status = 206
        self.send_response(request.status)
        for name, value in served.headers.items():
            self.send_header(name, value)
        if start:
            last = len(served.body) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(served.body)}")
        if served.length is True and "Content-Length" not in served.headers:
            self.send_header("Content-Length", str(len(served.body) - start))
        if served.length == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.command == "GET":
            self._send(served, request, served.body[start:])

    do_HEAD = do_GET

    def _send(self, served, request, body):
        cut = served.cuts.pop(0) if served.cuts else None
        whole = cut is None
        part = body if whole else body[:cut]
        if served.length == "chunked":
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) + b"0\r\n\r\n" * whole)
        else:
            self.wfile.write(part)
        request.sent = len(part)
        if not whole and served.stall is not None:
            served.stall.wait(20)
        if not whole and served.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *arguments) -> None:
        """Says nothing."""


def _first_byte(served: Served, request: Request) -> int:
    asked = re.fullmatch(r"bytes=(\d+)-", request.range or "")
    if asked is None or not served.ranges:
        return 0
    versions = (served.headers.get("ETag"), served.headers.get("Last-Modified"))
    same = request.if_range is None or (
        request.if_range in versions and not request.if_range.startswith("W/")
    )
    return int(asked[1]) if same else 0
