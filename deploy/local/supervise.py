"""Run the whole of Tidegate on this machine until told to stop: what `make up` ends in.

Every process is a child of this one and dies with it, whatever ends it. Ctrl-C or SIGTERM stops
them in order: load, services, worker and beat, web, Prometheus and Valkey.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

from deploy.local import plan as plans
from deploy.local import readiness
from deploy.local.children import ProcessSpec, die_with_parent, prepare_log, spawn
from deploy.local.plan import Plan
from deploy.local.ports import HOST, check_web_port, choose_ports, parse_port
from deploy.local.problems import SetupProblem
from deploy.local.state import (
    already_running,
    find_running,
    holding_lock,
    open_state_dir,
    write_private,
)
from deploy.local.static_files import is_collected, mark_collected
from deploy.local.supervisor import Supervisor

TICK_S = 0.1
READY_WITHIN_S = 60.0
EDGE_WITHIN_S = 20.0


class StopRequest:
    """Remembers that somebody asked this process to stop."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


class Stopped(Exception):
    """The user asked to stop before everything had started."""


def main() -> int:
    """Run the stack; return the exit code of the command."""
    if os.environ.get("MAKELEVEL"):
        # Under make, a killed make must not leave the stack behind without a terminal.
        die_with_parent(signal.SIGTERM)
    stop = StopRequest()
    try:
        plan = make_plan(dict(plans.outside_environment()))
        with holding_lock(plan.state_dir, plan.url):
            return run(plan, stop)
    except SetupProblem as problem:
        say(str(problem))
        return 1


def make_plan(outside: dict[str, str]) -> Plan:
    """Return the stack that the environment asks for: PORT, DEMO, TIDEGATE_STATE_DIR.

    Raises:
        SetupProblem: a port is taken, a server is missing, or a stack already runs here.
    """
    state_dir = open_state_dir(
        Path(outside.get("TIDEGATE_STATE_DIR") or plans.ROOT / ".tidegate").resolve()
    )
    running = find_running(state_dir)
    if running is not None:
        raise already_running(running, state_dir)
    demo = outside.get("DEMO", "1") != "0"
    web_port = parse_port(outside.get("PORT") or "8000")
    check_web_port(web_port)
    instance_count = 0
    if demo:
        from demo.fleet import instance_count as count
        from demo.traffic import read_base_per_s

        read_base_per_s(outside)  # refused now, not in a process that ends and is started again
        instance_count = count()
    tools = plans.ROOT / ".tidegate/tools/bin"
    search_path = os.pathsep.join([outside.get("PATH", os.defpath), str(tools)])
    prometheus = shutil.which("prometheus", path=search_path)
    if prometheus is None and "TIDEGATE_PROMETHEUS_URL" not in outside:
        raise SetupProblem("Prometheus is not installed. Run `make up`, which gets it.")
    return Plan(state_dir, choose_ports(web_port, instance_count), demo, prometheus or "", outside)


def run(plan: Plan, stop: StopRequest) -> int:
    """Start everything, wait until it is ready, keep it so, stop it when asked."""
    started_s = time.monotonic()
    for held in (plan.state_dir / "held").iterdir():
        held.unlink()
    ready_file = plan.state_dir / "ready"
    ready_file.unlink(missing_ok=True)
    environment = plans.process_environment(plan)
    plans.write_environment_file(plan)
    supervisor = Supervisor(plan.state_dir, say)
    say(f"Tidegate: state in {plan.state_dir}, one log per process in {plan.state_dir / 'logs'}")
    try:
        start_servers(plan, environment, supervisor)
        prepare_database(plan, environment, stop)
        for spec in plans.control_plane_processes(plan, environment):
            supervisor.start(spec)
        say("  started     web, worker, beat")
        from_start_s = time.monotonic()
        # First, so that no instance begins with a refused poll and its backoff.
        wait_for("the web process", partial(readiness.is_ready, plan.ports.web), supervisor, stop)
        if plan.demo:
            start_fleet(plan, environment, supervisor, stop)
        announce(plan, supervisor, stop, started_s, from_start_s)
        write_private(ready_file, plan.url)
        while not stop.asked:
            supervisor.tick()
            time.sleep(TICK_S)
    except Stopped:
        pass
    finally:
        say("Stopping ...")
        supervisor.stop()
        ready_file.unlink(missing_ok=True)
        (plan.state_dir / "environment").unlink(missing_ok=True)
    say("Stopped. Nothing is left running.")
    return 0


def start_servers(plan: Plan, environment: dict[str, str], supervisor: Supervisor) -> None:
    """Start Valkey and Prometheus, unless the environment names others."""
    if plan.own_valkey:
        supervisor.start(plans.valkey_process(plan, environment))
        say(f"  valkey      127.0.0.1:{plan.ports.valkey}")
    if plan.own_prometheus:
        supervisor.start(plans.prometheus_process(plan, environment))
        say(f"  prometheus  http://127.0.0.1:{plan.ports.prometheus}")


def prepare_database(plan: Plan, environment: dict[str, str], stop: StopRequest) -> None:
    """Migrate, seed the demo, and collect static files when they have changed.

    Raises:
        SetupProblem: one of them failed; the text has the last lines of their log.
    """
    commands = ["migrate", "seed_demo"] if plan.demo else ["migrate"]
    collect = not is_collected(plan.state_dir)
    if collect:
        commands.append("collectstatic")
    argv = (sys.executable, "-m", "deploy.local.prepare", *commands)
    run_once(plan, ProcessSpec("prepare", 0, argv, env=environment, cwd=plans.ROOT), stop)
    if collect:
        mark_collected(plan.state_dir)
    say("  database    migrated" + (", demo seeded" if plan.demo else ""))


def run_once(plan: Plan, spec: ProcessSpec, stop: StopRequest) -> None:
    """Run one command to its end.

    Raises:
        SetupProblem: it failed.
        Stopped: the user asked to stop meanwhile; the command is ended.
    """
    log_path = prepare_log(plan.state_dir / "logs", spec.name)
    pid = spawn(spec, log_path)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if stop.asked:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise Stopped
        time.sleep(0.02)
    if status:
        tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-15:])
        raise SetupProblem(f"`{spec.name}` failed:\n{tail}\n(the whole log: {log_path})")


def start_fleet(
    plan: Plan, environment: dict[str, str], supervisor: Supervisor, stop: StopRequest
) -> None:
    """Start every instance of the demo fleet, the edge in front of it, and the load."""
    from demo import fleet, instance, traffic

    gc.freeze()  # what is imported stays shared between the forks
    placed = fleet.place(plan.ports.instances)
    fleet.write_files(plan.state_dir, placed)
    for one in placed:
        supervisor.start(
            _forked(
                one.name,
                plans.FLEET,
                environment,
                partial(instance.serve, one, plan.state_dir, plan.url),
            )
        )
    if start_edge(plan, environment, supervisor, stop):
        fleet.write_files(plan.state_dir, placed, plan.ports.edge)
    supervisor.start(_forked("load", plans.LOAD, environment, partial(traffic.run, plan.state_dir)))
    say(f"  fleet       {len(fleet.FLEET)} services, {len(placed)} instances, with load")


def start_edge(
    plan: Plan, environment: dict[str, str], supervisor: Supervisor, stop: StopRequest
) -> bool:
    """Start the Envoy in front of gateway; say so and return False where there can be none."""
    from demo import edge
    from demo.fleet import read_addresses

    ports = edge.EdgePorts(plan.ports.edge, plan.ports.edge_admin)
    try:
        binary = edge.find_envoy()
    except edge.NoEnvoy as problem:
        say(f"  edge        none: {problem}; the load goes to gateway itself")
        return False
    config = edge.write_files(
        plan.state_dir,
        ports,
        gateway=read_addresses(plan.state_dir)["gateway"],
        tidegate_port=plan.ports.web,
    )
    argv = edge.command(binary, config)
    supervisor.start(ProcessSpec("edge", plans.FLEET, argv, env=environment, stop_s=3))
    if not wait_for("Envoy", lambda: edge.is_live(ports), supervisor, stop, within_s=EDGE_WITHIN_S):
        supervisor.drop("edge")
        say("  edge        none: Envoy does not start; the load goes to gateway itself")
        return False
    say(f"  edge        Envoy on {HOST}:{ports.listen}, its admin page on {HOST}:{ports.admin}")
    return True


def _forked(
    name: str, stage: int, environment: dict[str, str], run_it: Callable[[], None]
) -> ProcessSpec:
    return ProcessSpec(name, stage, run=run_it, env=environment, cwd=plans.ROOT, stop_s=4)


def announce(
    plan: Plan, supervisor: Supervisor, stop: StopRequest, started_s: float, from_start_s: float
) -> None:
    """Wait until the fleet is seen, then say where the stack is and what to try."""
    if plan.demo:
        token = plan.state_dir / "tokens/operator"

        def fleet_is_seen() -> bool:
            from demo.fleet import read_addresses

            seen = readiness.list_services_with_traffic(plan.ports.web, token)
            return read_addresses(plan.state_dir).keys() <= set(seen)

        wait_for("traffic of every service on the Fleet page", fleet_is_seen, supervisor, stop)
    now_s = time.monotonic()
    say(
        f"Ready after {now_s - started_s:.0f} s, "
        f"{now_s - from_start_s:.0f} s after the processes' start.\n"
    )
    say(WELCOME.format(url=plan.url) + (DEMO_HELP if plan.demo else PLAIN_HELP))


def wait_for(
    what: str,
    is_so: Callable[[], bool],
    supervisor: Supervisor,
    stop: StopRequest,
    *,
    within_s: float = READY_WITHIN_S,
) -> bool:
    """Keep the children running until `is_so`; after `within_s` say what is missing, and go on.

    Raises:
        Stopped: the user asked to stop meanwhile.
    """
    began_s = time.monotonic()
    while not is_so():
        if stop.asked:
            raise Stopped
        supervisor.tick()
        if time.monotonic() - began_s > within_s:
            say(f"Still waiting for {what}: see the logs.")
            return False
        time.sleep(TICK_S * 3)
    return True


WELCOME = "  Open      {url}\n"
DEMO_HELP = """\
  Sign in   viewer, oncall or admin; password tidegate-demo
  Try       .venv/bin/python manage.py incident start retry_storm
            then find the service that hurts, open Tune, and set checkout's retry budget for
            payments to 10% and its attempts to 2. `incident list` names the others.
  Tour      demo/README.md
  Ctrl-C stops all of it."""
PLAIN_HELP = """\
  Sign in   .venv/bin/python manage.py createsuperuser makes the first user
  Ctrl-C stops all of it."""


def say(text: str) -> None:
    """Print one line to whoever ran the command; a closed terminal is no reason to stop."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
