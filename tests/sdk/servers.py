"""Dependencies on real ports that fall silent: nothing more comes, until their client goes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.waiting import HUNG_S


@contextmanager
def silent_server() -> Iterator[str]:
    """Accepts connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield _url_of(server)


@contextmanager
def server_that_says_once(answer: bytes) -> Iterator[str]:
    """Says this to the first request of its first client, and nothing ever after."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_say_once, args=(server, answer))
        thread.start()
        try:
            yield _url_of(server)
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)  # no client came: wakes who waits for one
            thread.join(HUNG_S)


def _say_once(server: socket.socket, answer: bytes) -> None:
    with suppress(OSError):  # the client, or the test, gave up before we began
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)
            while connection.recv(65536):
                """Listen, until the client goes."""


def _url_of(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}"
