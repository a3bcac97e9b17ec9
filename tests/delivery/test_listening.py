"""Where a process with a delivery plane listens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from structlog.testing import capture_logs

from controlplane.delivery.server import hold_fewer, listen
from tests.delivery.builders import make_plane
from tests.ports import find_free_port
from tests.waiting import HUNG_S


def test_a_process_that_may_open_fewer_files_holds_fewer_polls_and_says_so() -> None:
    plane = make_plane().delivery
    plane.config.hold_at_most(10_000)

    with capture_logs() as lines:
        hold_fewer(plane, 3_500, 14_000)

    assert plane.config.max_held == 2_500
    assert lines[0]["event"] == "connections.limited"
    assert lines[0]["command"] == "ulimit -n 14256"


def test_a_process_that_may_open_hardly_any_files_says_what_to_do() -> None:
    script = "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (200, 200)); "
    script += "import runpy; runpy.run_module('controlplane.delivery.serve', run_name='__main__')"

    done = subprocess.run(
        [sys.executable, "-c", script, "--port", str(find_free_port())],
        capture_output=True, text=True, check=False, timeout=HUNG_S,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip

    assert done.returncode == 2
    assert "a node takes at least 320" in done.stderr


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
                socket.create_connection((address, port), timeout=HUNG_S).close()
            else:
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection((address, port), timeout=HUNG_S)
