"""The state directory, the ports and the plan of one machine."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import plan as plans
from deploy.local import ports, state
from deploy.local.plan import Plan
from deploy.local.ports import Ports
from deploy.local.problems import SetupProblem
from deploy.local.readiness import services_with_traffic
from deploy.local.static_files import static_fingerprint
from tests.ports import find_free_port


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens; those beside it are nobody's."""
    port = find_free_port() + 1
    with socket.create_server(("127.0.0.1", port)):
        yield port


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first = state.ensure_secret(tmp_path / "key")

    assert state.ensure_secret(tmp_path / "key") == first
    assert len(first) >= 43
    assert mode_of(tmp_path / "key") == 0o600


def test_the_state_directory_is_private(tmp_path: Path) -> None:
    made = state.open_state_dir(tmp_path / "state")

    assert mode_of(made) == 0o700
    assert (made / "logs").is_dir()


def test_a_second_stack_in_one_checkout_is_refused_with_the_address_of_the_first(
    tmp_path: Path,
) -> None:
    with (tmp_path / "up.lock").open("w") as lock:
        lock.write(json.dumps({"pid": 1, "url": "http://127.0.0.1:8000"}))
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)

        assert state.find_running(tmp_path) == "http://127.0.0.1:8000"
        with (
            pytest.raises(SetupProblem, match="already runs from this checkout, at http://127"),
            state.holding_lock(tmp_path, "http://127.0.0.1:8100"),
        ):
            raise AssertionError("unreachable")


def test_the_lock_of_a_dead_stack_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "up.lock").write_text(json.dumps({"pid": 1, "url": "http://127.0.0.1:8000"}))

    assert state.find_running(tmp_path) is None
    with state.holding_lock(tmp_path, "http://127.0.0.1:8100"):
        written = json.loads((tmp_path / "up.lock").read_text())
    assert written == {"pid": os.getpid(), "url": "http://127.0.0.1:8100"}


def test_logs_of_earlier_runs_move_aside(tmp_path: Path) -> None:
    path = tmp_path / "web.log"
    for run in ("first", "second", "third", "fourth", "fifth"):
        state.rotate_log(path)
        path.write_text(run)

    kept = {one.name: one.read_text() for one in tmp_path.iterdir()}
    assert kept == {
        "web.log": "fifth",
        "web.log.1": "fourth",
        "web.log.2": "third",
        "web.log.3": "second",
    }


def test_a_log_that_grew_too_long_starts_afresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "LOG_BYTES_MAX", 10)
    path = tmp_path / "web.log"
    path.write_text("x" * 11)

    state.trim_log(path)

    assert path.read_text() == ""
    assert (tmp_path / "web.log.1").read_text() == "x" * 11


def test_a_taken_web_port_names_the_command_that_moves_ours(taken: int) -> None:
    with pytest.raises(SetupProblem) as caught:
        ports.choose_ports(taken, 3)

    other = taken + 100
    assert str(caught.value) == (
        f"Port {taken} is taken by another program. Choose another: PORT={other} make up"
    )


def test_other_ports_move_to_free_ones_by_themselves(taken: int) -> None:
    chosen = ports.choose_ports(taken - 1, 3)

    everything = [chosen.web, chosen.valkey, chosen.prometheus, *chosen.instances]
    assert chosen.valkey > taken
    assert len(set(everything)) == len(everything)


@pytest.mark.parametrize("text", ["", "web", "80", "99999", "-1", "8000.5"])
def test_a_bad_port_says_what_would_be_right(text: str) -> None:
    with pytest.raises(SetupProblem, match="expected a whole number from 1024 to 65000"):
        ports.parse_port(text)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    state_dir = state.open_state_dir(tmp_path / "state")
    outside = {"PATH": "/usr/bin", "TIDEGATE_OVERRIDE_MAX_S": "600"}
    return Plan(
        state_dir, Ports(8000, 8001, 8002, 8003, 8004, ()), True, "/usr/bin/prometheus", outside
    )


def test_every_process_learns_where_the_others_are(plan: Plan) -> None:
    given = plans.process_environment(plan)

    assert given["TIDEGATE_PROMETHEUS_URL"] == "http://127.0.0.1:8002"
    assert given["TIDEGATE_REDIS_URL"].startswith("redis://:")
    assert given["TIDEGATE_REDIS_URL"].endswith("@127.0.0.1:8001/0")
    assert given["TIDEGATE_OVERRIDE_MAX_S"] == "600"
    assert given["PATH"] == "/usr/bin"


def test_servers_that_the_environment_names_are_used_instead_of_ours(plan: Plan) -> None:
    theirs = Plan(
        plan.state_dir, plan.ports, True, "", {"TIDEGATE_REDIS_URL": "redis://cache.example/0"}
    )

    assert plan.own_valkey
    assert not theirs.own_valkey
    assert plans.tidegate_variables(theirs)["TIDEGATE_REDIS_URL"] == "redis://cache.example/0"


def test_commands_find_the_running_stack_by_a_private_file(plan: Plan) -> None:
    plans.write_environment_file(plan)

    path = plan.state_dir / "environment"
    assert mode_of(path) == 0o600
    assert f"TIDEGATE_STATE_DIR={plan.state_dir}" in path.read_text().splitlines()


def test_prometheus_reads_targets_of_this_state_directory(plan: Plan) -> None:
    spec = plans.prometheus_process(plan, {})

    config = (plan.state_dir / "prometheus.yml").read_text()
    assert f'files: ["{plan.state_dir}/targets/*.json"]' in config
    assert "scrape_interval: 2s" in config
    assert not re.search(r"\$\{[a-z_]+\}", config)
    assert "--web.listen-address=127.0.0.1:8002" in spec.argv


def test_valkey_keeps_its_password_out_of_the_process_list(plan: Plan) -> None:
    spec = plans.valkey_process(plan, {})

    password = (plan.state_dir / "valkey_password").read_text()
    assert not any(password in argument for argument in spec.argv)
    assert mode_of(plan.state_dir / "valkey.conf") == 0o600


def test_only_services_with_a_rate_above_zero_count_as_seen() -> None:
    document = {
        "services": {
            "gateway": {"rate_per_s": 31.5},
            "fraud": {"rate_per_s": 0},
            "ledger": {"rate_per_s": None},
        }
    }

    assert services_with_traffic(document) == ["gateway"]
    assert services_with_traffic({}) == []
    assert services_with_traffic([]) == []


def test_static_files_are_collected_again_when_one_changed(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("")
    style = tmp_path / "dashboards/static/dashboards/css/tokens.css"
    style.parent.mkdir(parents=True)
    style.write_text("a{}")
    before = static_fingerprint(tmp_path)

    os.utime(style, ns=(1, 1))

    assert static_fingerprint(tmp_path) != before
