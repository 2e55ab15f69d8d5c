"""Ends a process when another process of the same run has ended early.

Without it, a process would wait for the gradients of a killed one: for minutes, or forever. Every
process keeps a TCP connection to the process with rank 0, which the operating system closes as soon
as either end dies. Keepalive packets find a host that no longer answers.
"""

import contextlib
import json
import os
import queue
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator

from keras_convnext.distribution.engine import Engine
from keras_convnext.errors import SharedError, UserError

# A process whose neighbour has ended gets this long to end by itself, with its own message.
GRACE_SECONDS = 5.0
CONNECT_SECONDS = 30.0
# Together at most 40 seconds until a host that does not answer counts as gone.
KEEPALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
# What a process says before it closes its connection: the run is complete, this process has failed,
# another one was killed.
DONE, STOP, KILLED = b"done\n", b"stop\n", b"killed\n"
NEWS_SECONDS = 2.0  # between the error of a collective and the news that another process has ended
ENDED = (
    "{} of this run has ended before the run was complete, so this process ends too. Started again "
    "with the same command, the run resumes after its last complete epoch."
)


@contextlib.contextmanager
def watched(engine: Engine) -> Iterator[None]:
    """Ends this process if another one of the run ends within the block.

    Raises:
        UserError: If the process with rank 0 cannot be reached.
        SharedError: If the block fails since another process has ended, which is printed before. A
            block that waits instead is ended with exit status 1.
    """
    if engine.processes == 1:
        yield
        return
    watch = _Main(engine) if engine.is_main else _Other(engine)
    try:
        yield
        engine.gather(None)  # nobody leaves before all are done
    except Exception as error:
        ended = None if isinstance(error, UserError) else watch.process_that_ended()
        watch.close(STOP)
        if ended is not None:
            raise SharedError(ENDED.format(ended)) from error
        raise
    except BaseException:
        watch.close(STOP)
        raise
    watch.close(DONE)


class _Watch:
    """Threads that wait for the end of other processes."""

    def __init__(self) -> None:
        self._closed = threading.Event()
        self._ended: queue.Queue[str] = queue.Queue()

    def process_that_ended(self) -> str | None:
        """Returns which process has ended; waits a moment for the news."""
        try:
            return self._ended.get(timeout=NEWS_SECONDS)
        except queue.Empty:
            return None

    def _report(self, who: str, was_killed: bool) -> None:
        """Ends this process, unless it ends by itself in the meantime.

        Args:
            who: The process that has ended.
            was_killed: Whether it had no time to say so. Then this process says it at once, since
                the backend may end it too. Otherwise both may fail for the same reason, which their
                own messages tell.
        """
        if was_killed:
            _print(ENDED.format(who))
            self._ended.put(who)
        if self._closed.wait(GRACE_SECONDS):
            return
        if not was_killed:
            _print(ENDED.format(who))
        os._exit(1)  # the main thread may be waiting for the other process, in native code


class _Main(_Watch):
    """The end of the connections in the process with rank 0."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._first = threading.Lock()  # of the threads that see another process end
        token = secrets.token_hex(16)
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        with socket.create_server(
            ("", 0), family=family, dualstack_ipv6=family == socket.AF_INET6
        ) as server:
            server.settimeout(CONNECT_SECONDS)
            engine.broadcast((server.getsockname()[1], token))
            self._others = _accept(server, token, engine.processes - 1)
        for rank, connection in self._others.items():
            _start(self._watch, rank, connection)

    def _watch(self, rank: int, connection: socket.socket) -> None:
        message = _received(connection)
        if message == DONE or self._closed.is_set():
            return
        if not self._first.acquire(blocking=False):
            return
        for other in self._others.values():
            _close(other, STOP if message == STOP else KILLED)
        self._report(f"Process {rank}", was_killed=message != STOP)

    def close(self, message: bytes) -> None:
        self._closed.set()
        for connection in self._others.values():
            _close(connection, message)


class _Other(_Watch):
    """The end of the connection in any other process."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        port, token = engine.broadcast(None)
        try:
            self._main = socket.create_connection((engine.main_host, port), CONNECT_SECONDS)
        except OSError as error:
            raise UserError(
                f"Process {engine.rank} cannot reach process 0 on {engine.main_host}, port {port}: "
                f"{error.strerror or error}. The hosts of a run must accept each other's "
                f"connections on every port."
            ) from error
        _keep_alive(self._main)
        self._main.sendall(json.dumps({"token": token, "rank": engine.rank}).encode() + b"\n")
        _start(self._watch)

    def _watch(self) -> None:
        message = _received(self._main)
        if message == DONE or self._closed.is_set():
            return
        who = "Another process" if message in (STOP, KILLED) else "Process 0"
        self._report(who, was_killed=message != STOP)

    def close(self, message: bytes) -> None:
        self._closed.set()
        _close(self._main, message)


def _accept(server: socket.socket, token: str, count: int) -> dict[int, socket.socket]:
    """Returns a connection to every other process, by its rank."""
    others: dict[int, socket.socket] = {}
    deadline = time.monotonic() + CONNECT_SECONDS
    while len(others) < count:
        try:
            connection, _ = server.accept()
        except TimeoutError:
            connection = None
        if time.monotonic() > deadline:
            raise UserError(
                f"{count - len(others)} of the other processes did not connect to process 0 within "
                f"{CONNECT_SECONDS:.0f} seconds. The hosts of a run must accept each other's "
                f"connections on every port."
            )
        if connection is None:
            continue
        _keep_alive(connection)
        with contextlib.suppress(ValueError, TypeError, KeyError):  # from a stranger
            hello = json.loads(_received(connection, CONNECT_SECONDS))
            if secrets.compare_digest(hello["token"], token):
                others[int(hello["rank"])] = connection
    return others


def _keep_alive(connection: socket.socket) -> None:
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        if hasattr(socket, name):  # not on every operating system
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _received(connection: socket.socket, timeout: float | None = None) -> bytes:
    """Waits for a line; returns nothing if the connection ends."""
    with contextlib.suppress(OSError):
        connection.settimeout(timeout)
        with connection.makefile("rb") as lines:
            return lines.readline(1024)
    return b""


def _close(connection: socket.socket, message: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(message)
        connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for a line


def _print(sentence: str) -> None:
    with contextlib.suppress(OSError):  # whoever started this process may have ended as well
        print(sentence, file=sys.stderr, flush=True)  # noqa: T201 (rich's lock may be held)


def _start(function, *arguments) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()
