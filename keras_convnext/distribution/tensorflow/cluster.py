"""The processes of a run as `TF_CONFIG` lists them, and their meeting before TensorFlow starts.

TensorFlow itself would wait for a missing process for an hour, and fail without its name.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from typing import NamedTuple

from keras_convnext.distribution.start_timeout import TIMEOUT
from keras_convnext.errors import UserError

_EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)


class Cluster(NamedTuple):
    """The processes of a run.

    Attributes:
        addresses: Host and port of each process, in the order of their ranks: a chief comes first.
        rank: Number of this process.
    """

    addresses: tuple[str, ...]
    rank: int


def read_cluster() -> Cluster | None:
    """Returns what the environment variable `TF_CONFIG` says; `None` if it lists one process.

    Raises:
        UserError: If it cannot be read, or this process is not in its list.

    Example:
        >>> os.environ["TF_CONFIG"] = '''{"cluster": {"worker": ["a:1", "b:1"]},
        ... "task": {"type": "worker", "index": 1}}'''
        >>> read_cluster()
        Cluster(addresses=('a:1', 'b:1'), rank=1)
    """
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        config = json.loads(text)
        jobs = {job: list(config.get("cluster", {}).get(job, ())) for job in ("chief", "worker")}
        addresses = (*jobs["chief"], *jobs["worker"])
        if len(addresses) < 2:
            return None
        task, index = config["task"]["type"], int(config["task"]["index"])
        rank = addresses.index(jobs[task][index])
        for address in addresses:
            _host_and_port(address)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"TF_CONFIG must list the address of each process and say which one this is, such as "
            f"{_EXAMPLE}. Received: {text}."
        ) from error
    return Cluster(addresses, rank)


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def host_of(address: str) -> str:
    """Returns the host of an address such as `host1:2222`."""
    return _host_and_port(address)[0]


def meet(cluster: Cluster, timeout: float) -> None:
    """Waits until all processes have started.

    Each process listens at its own address. All report to the first one, which connects to each.

    Args:
        cluster: The processes.
        timeout: Seconds to wait at most.

    Raises:
        UserError: If an address is taken or wrong, a process does not start in time, or the
            processes have different lists.
    """
    deadline = time.monotonic() + timeout
    with _listening(cluster) as server:
        if cluster.rank == 0:
            _gather_reports(cluster, server, deadline, timeout)
        else:
            _report(cluster, deadline, timeout)


@contextlib.contextmanager
def _listening(cluster: Cluster) -> Iterator[socket.socket]:
    address = cluster.addresses[cluster.rank]
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    try:
        server = socket.create_server(
            ("", _host_and_port(address)[1]),
            family=family,
            backlog=1024,
            dualstack_ipv6=family == socket.AF_INET6,
        )
    except OSError as error:
        raise UserError(
            f"This process should listen at {address}, as TF_CONFIG says, and cannot: "
            f"{error.strerror}. Choose another port, or end the process that uses it."
        ) from error
    with server:
        yield server


def _gather_reports(cluster, server, deadline, timeout):
    """Waits for the reports of the other processes, and tells all of them to start, or why not."""
    connections: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        problem = None
        while problem is None and len(connections) < len(cluster.addresses) - 1:
            server.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                connection = stack.enter_context(server.accept()[0])
                connection.settimeout(5)
                report = json.loads(_line(connection))
            except TimeoutError:
                if time.monotonic() >= deadline:
                    problem = _missing(cluster, connections, timeout)
                continue
            except (OSError, ValueError):
                continue  # not a process of ours
            problem = _difference(cluster, report)
            connections[report["rank"]] = connection
        problem = problem or _unreachable(cluster)
        for connection in connections.values():
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps(problem).encode() + b"\n")
    if problem is not None:
        raise UserError(problem)


def _missing(cluster, connections, timeout):
    missing = [
        f"{rank} ({address})"
        for rank, address in enumerate(cluster.addresses)
        if rank and rank not in connections
    ]
    return (
        f"These of the {len(cluster.addresses)} processes in TF_CONFIG did not start within "
        f"{timeout:.0f} seconds: {', '.join(missing)}. Start all of them with the same addresses; "
        f"{TIMEOUT}=SECONDS waits longer."
    )


def _difference(cluster, report):
    if report["addresses"] == list(cluster.addresses):
        return None
    return (
        f"The processes do not have the same list in TF_CONFIG: process 0 has "
        f"{', '.join(cluster.addresses)}; process {report['rank']} has "
        f"{', '.join(report['addresses'])}. Start all of them with the same addresses."
    )


def _unreachable(cluster):
    for rank, address in enumerate(cluster.addresses):
        try:
            if rank != cluster.rank:
                socket.create_connection(_host_and_port(address), timeout=10).close()
        except OSError as error:
            return (
                f"Process {rank} has started, but process 0 cannot reach it at {address}: {error}. "
                f"Correct its address in TF_CONFIG, or open its port."
            )
    return None


def _report(cluster, deadline, timeout):
    first = cluster.addresses[0]
    with _connected(first, deadline, timeout) as connection:
        report = {"rank": cluster.rank, "addresses": cluster.addresses}
        try:
            connection.sendall(json.dumps(report).encode() + b"\n")
            # The first process gives up at the same time, and says which processes are missing.
            connection.settimeout(max(deadline - time.monotonic(), 0) + 30)
            problem = json.loads(_line(connection))
        except (OSError, ValueError) as error:
            raise UserError(
                f"Process 0 at {first} ended before all processes had started. Its own output says "
                f"why."
            ) from error
    if problem is not None:
        raise UserError(problem)


def _connected(address, deadline, timeout):
    while True:
        try:
            return socket.create_connection(_host_and_port(address), timeout=5)
        except OSError as error:
            if time.monotonic() >= deadline:
                raise UserError(
                    f"Process 0 could not be reached at {address} within {timeout:.0f} seconds: "
                    f"{error}. Start it, or correct its address in TF_CONFIG; {TIMEOUT}=SECONDS "
                    f"waits longer."
                ) from error
        time.sleep(0.2)


def _line(connection) -> str:
    """Returns the next line that a connection receives."""
    with connection.makefile() as file:
        line = file.readline()
    if not line.endswith("\n"):
        raise ConnectionError("the connection was closed")
    return line
