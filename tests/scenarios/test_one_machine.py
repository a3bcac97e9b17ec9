"""`make up` as a whole: it starts, is told to stop, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenarios.stack import ROOT, Stack, is_alive, running_stack, wait_until

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(240)]

SERVICES = {
    "gateway",
    "checkout",
    "payments",
    "inventory",
    "fraud",
    "ledger",
    "search",
    "catalog",
}


def signals(stack: Stack) -> dict[str, dict[str, object]]:
    services: dict[str, dict[str, object]] = stack.api("GET", "/signals?environment=prod")[
        "services"
    ]
    return services


def start_again(stack: Stack, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TIDEGATE_STATE_DIR": str(stack.state_dir), **variables}
    return subprocess.run(
        [sys.executable, "-m", "deploy.local.supervise"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> object:
    with running_stack(tmp_path_factory.mktemp("machine")) as running:
        yield running


def test_every_service_has_traffic_when_the_stack_says_it_is_ready(stack: Stack) -> None:
    seen = signals(stack)

    assert {name for name, one in seen.items() if one["rate_per_s"]} == SERVICES


def test_a_second_start_says_that_the_stack_already_runs(stack: Stack) -> None:
    second = start_again(stack, PORT="8999")

    assert second.returncode == 1
    assert f"already runs from this checkout, at {stack.url}" in second.stdout


def test_a_taken_port_names_the_command_that_moves_the_stack(stack: Stack, tmp_path: Path) -> None:
    second = start_again(stack, PORT=str(stack.port), TIDEGATE_STATE_DIR=str(tmp_path / "other"))

    assert second.returncode == 1
    assert second.stdout == (
        f"Port {stack.port} is taken by another program. "
        f"Choose another: PORT={stack.port + 100} make up\n"
    )


def test_an_instance_that_is_killed_comes_back(stack: Stack) -> None:
    before = stack.pids()["search-1"]

    stack.kill("search-1")

    wait_until(lambda: stack.pids().get("search-1", before) != before, what="search-1 to return")


def test_secrets_are_readable_by_their_owner_only(stack: Stack) -> None:
    names = ["secret_key", "valkey_password", "environment", "tokens/operator", "tokens/checkout"]

    assert {
        name: (stack.state_dir / name).stat().st_mode & 0o777 for name in names
    } == dict.fromkeys(names, 0o600)


def test_a_retry_storm_ends_when_its_budget_and_attempts_are_cut(stack: Stack) -> None:
    def attempts() -> float:
        found = signals(stack)["payments"]["attempts_received_per_request"]
        return float(str(found)) if found is not None else 0.0

    stack.manage("incident", "start", "retry_storm")
    wait_until(lambda: attempts() > 1.8, within_s=40, what="the storm")
    stack.api(
        "POST",
        "/services/checkout/overrides?environment=prod",
        {
            "patch": {
                "outbound": {
                    "dependencies": {
                        "payments": {"retry": {"max_attempts": 2, "budget": {"ratio": 0.1}}}
                    }
                }
            },
            "lasts_s": 120,
            "reason": "payments is slow: stop the storm",
        },
    )
    took_s = wait_until(lambda: attempts() < 1.2, within_s=40, what="the storm to end")
    stack.manage("incident", "stop")

    assert took_s < 30


def test_nothing_survives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    with running_stack(tmp_path, demo=False) as stack:
        pids = stack.pids()
        assert set(pids) == {"valkey", "prometheus", "web", "worker", "beat"}

        stack.process.send_signal(signal.SIGKILL)
        stack.process.wait()

        wait_until(lambda: not any(is_alive(pid) for pid in pids.values()), what="all to end")
