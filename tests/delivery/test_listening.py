"""Where a process with a delivery plane listens."""

from __future__ import annotations

import socket

import pytest

from controlplane.delivery.server import listen


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this system has no IPv6")
@pytest.mark.parametrize(
    ("host", "reached"),
    [("::", ("127.0.0.1", "::1")), ("::1", ("::1",)), ("127.0.0.1", ("127.0.0.1",))],
)
def test_a_host_is_listened_at_by_every_address_it_stands_for(
    host: str, reached: tuple[str, ...]
) -> None:
    with listen(host, 0) as listener:
        port = listener.getsockname()[1]

        for address in ("127.0.0.1", "::1"):
            if address in reached:
                socket.create_connection((address, port), timeout=2).close()
            else:
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection((address, port), timeout=2)
