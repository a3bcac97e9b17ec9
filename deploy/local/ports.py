"""Which ports the stack listens on: `PORT` and what follows from it."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from deploy.local.problems import SetupProblem

HOST = "127.0.0.1"
INSTANCE_OFFSET = 10
SEARCH_SPAN = 200


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one stack."""

    web: int
    valkey: int
    prometheus: int
    edge: int
    edge_admin: int
    instances: tuple[int, ...]


def is_free(port: int) -> bool:
    """Return whether a server could listen on `port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Like the servers themselves: a connection in TIME_WAIT does not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def check_web_port(port: int) -> None:
    """Refuse a web port that is taken.

    Raises:
        SetupProblem: another program listens there; the text has the command that moves ours.
    """
    if not is_free(port):
        other = port + 100 if port <= 65000 else 8100
        raise SetupProblem(
            f"Port {port} is taken by another program. Choose another: PORT={other} make up"
        )


def parse_port(text: str) -> int:
    """Return the port that `PORT` names.

    Raises:
        SetupProblem: it is not a port that leaves room for the others above it.
    """
    if not text.isdigit() or not 1024 <= int(text) <= 65000:
        raise SetupProblem(f"PORT is {text!r}; expected a whole number from 1024 to 65000")
    return int(text)


def choose_ports(web: int, instance_count: int) -> Ports:
    """Return the ports of a stack whose pages are on `web`.

    The others sit just above it; one that is taken moves to the next free port by itself.

    Raises:
        SetupProblem: the web port, or everything above it, is taken.
    """
    check_web_port(web)
    used = {web}

    def next_free(first: int) -> int:
        for port in range(first, min(first + SEARCH_SPAN, 65536)):
            if port not in used and is_free(port):
                used.add(port)
                return port
        raise SetupProblem(
            f"No free port from {first} to {first + SEARCH_SPAN}. "
            f"Choose another range: PORT={8100 if web != 8100 else 9100} make up"
        )

    valkey = next_free(web + 1)
    prometheus = next_free(web + 2)
    edge = next_free(web + 3)
    edge_admin = next_free(web + 4)
    instances = tuple(
        next_free(web + INSTANCE_OFFSET + position) for position in range(instance_count)
    )
    return Ports(web, valkey, prometheus, edge, edge_admin, instances)
