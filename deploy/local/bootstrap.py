"""What the Makefile runs: set up what a command needs, then become that command.

Standard library only, for it runs before anything is installed. As root or not, it does all it
can, and names what is missing with the one line that gets it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from deploy.local import debian, suite
from deploy.local.debian import Machine
from deploy.local.environment import ensure_environment
from deploy.local.ports import check_web_port, parse_port
from deploy.local.problems import SetupProblem
from deploy.local.state import already_running, find_running, open_state_dir
from deploy.local.suite import Suite

ROOT = Path(__file__).resolve().parents[2]
CHECKS = (
    ("ruff check", ("ruff", "check", ".")),
    ("ruff format", ("ruff", "format", "--check", ".")),
    ("mypy --strict", ("mypy", ".")),
    ("import contracts", ("lint-imports",)),
    ("templates", ("djlint", "templates", "--lint", "--quiet")),
    ("django check", ("python", "manage.py", "check")),
    ("migrations", ("python", "manage.py", "makemigrations", "--check", "--dry-run")),
)
BENCHMARKS = (
    "hotpath.py", "fanout.py", "hostile.py", "scale.py", "quiet.py", "costs.py", "sdk_overhead.py",
)  # fmt: skip
ALERTMANAGER = ("prometheus-alertmanager", "alertmanager")
GENERATED = (
    ".tidegate", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis",
    ".import_linter_cache", "benchmarks/results",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    """Run one command; return its exit code."""
    command = COMMANDS.get(arguments[0]) if len(arguments) == 1 else None
    if command is None:
        say(f"Usage: python3 -m deploy.local.bootstrap {'|'.join(COMMANDS)}")
        return 2
    try:
        return command()
    except SetupProblem as problem:
        say(str(problem))
        return 1
    except KeyboardInterrupt:
        return 130


def up() -> int:
    """Set up the runtime and become the supervisor."""
    state_dir = open_state_dir(
        Path(os.environ.get("TIDEGATE_STATE_DIR") or ROOT / ".tidegate").resolve()
    )
    running = find_running(state_dir)
    if running is not None:
        raise already_running(running, state_dir)
    check_web_port(parse_port(os.environ.get("PORT") or "8000"))
    machine = our_machine()
    python = ensure_environment(ROOT, machine, "runtime", say)
    if not os.environ.get("TIDEGATE_PROMETHEUS_URL"):
        ensure_prometheus(machine)
    os.chdir(ROOT)
    os.execv(python, [str(python), "-m", "deploy.local.supervise"])  # noqa: S606 - no shell wanted


def run_tests() -> int:
    """Set up everything tests need, and run the whole suite, its parts side by side.

    Without Chromium the rest still runs; the result is then a failure that says what was left out.
    """
    machine = our_machine()
    python = ensure_environment(ROOT, machine, "tests", say)
    ensure_prometheus(machine)
    missing = ""
    try:
        ensure_alertmanager(machine)
    except SetupProblem as problem:
        say(f"Tests against a real Alertmanager will fail: {problem}")
    try:
        ensure_chromium(machine, python)
    except SetupProblem as problem:
        missing = f"The browser tests did not run: {problem}"
        say(missing)
    code = Suite(ROOT, python, test_environment(machine), say).run(
        in_turn=(suite.UNIT, suite.POSTGRESQL, suite.REAL_PARTS),
        beside=(suite.STACK_WITHOUT_BROWSER if missing else suite.STACK,),
    )
    if missing:
        say(missing)
    return code or (1 if missing else 0)


def run_soak() -> int:
    """Set up what it needs, and run what needs time, load or luck, for SOAK_MINUTES."""
    machine = our_machine()
    python = ensure_environment(ROOT, machine, "tests", say)
    ensure_prometheus(machine)
    ensure_network_tools(machine)
    return Suite(ROOT, python, test_environment(machine), say).run(in_turn=(suite.SOAK,))


def run_checks() -> int:
    """Run every static check, all of them even when one fails."""
    machine = our_machine()
    python = ensure_environment(ROOT, machine, "tests", say)
    environment = test_environment(machine) | {
        "DJANGO_SETTINGS_MODULE": "controlplane.project.settings.test"
    }
    failed = []
    for name, (program, *arguments) in CHECKS:
        started_s = time.monotonic()
        done = subprocess.run(
            [str(python.with_name(program)), *arguments],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        verdict = "ok" if done.returncode == 0 else "FAILED"
        say(f"{name:<18} {verdict:<7} {time.monotonic() - started_s:5.1f} s")
        if done.returncode != 0:
            failed.append(name)
            say(done.stdout + done.stderr)
    say(f"check: {len(CHECKS) - len(failed)} of {len(CHECKS)} passed"
        + (f"; failed: {', '.join(failed)}" if failed else ""))  # fmt: skip
    return 1 if failed else 0


def run_benchmarks() -> int:
    """Run every benchmark in turn and print its table."""
    python = ensure_environment(ROOT, our_machine(), "tests", say)
    codes = []
    for name in BENCHMARKS:
        say(f"\n== benchmarks/{name}")
        codes.append(
            subprocess.call(
                [str(python), str(ROOT / "benchmarks" / name)],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        )
    return max(codes)


def clean() -> int:
    """Remove the state directory and what the tools left; refused while a stack runs here."""
    running = find_running(ROOT / ".tidegate") if (ROOT / ".tidegate").exists() else None
    if running is not None:
        raise already_running(running, ROOT / ".tidegate")
    for name in GENERATED:
        shutil.rmtree(ROOT / name, ignore_errors=True)
    say("Removed .tidegate and what the tools generated; .venv stays.")
    return 0


def ensure_prometheus(machine: Machine) -> str:
    """Return the path of Prometheus; raises SetupProblem when it can't be had."""
    if machine.find("prometheus") is None:
        say("Getting Prometheus from Debian's package (once) ...")
    found = debian.ensure_program(machine, "prometheus", ["prometheus"], "usr/bin/prometheus")
    unpacked = machine.tools / "usr/bin/promtool"
    if machine.find("promtool") is None and unpacked.exists():
        debian.write_launcher(machine, "promtool", unpacked)  # it checks the alert rules
    return found


def ensure_alertmanager(machine: Machine) -> str:
    """Return the path of Alertmanager; raises SetupProblem when it can't be had."""
    if machine.find(*ALERTMANAGER) is None:
        say("Getting Alertmanager from Debian's package (once) ...")
    return debian.ensure_program(
        machine, "prometheus-alertmanager", ALERTMANAGER, "usr/bin/prometheus-alertmanager"
    )


def ensure_network_tools(machine: Machine) -> None:
    """Get `ip` where it can be used: the tests that cut networks make namespaces, as root only."""
    if machine.is_root and machine.find("ip") is None:
        say("Getting iproute2 from Debian's package (once) ...")
        debian.ensure_program(machine, "iproute2", ["ip"], "sbin/ip")


def ensure_chromium(machine: Machine, python: Path) -> str:
    """Return the path of a Chromium that starts; raises SetupProblem when none can be had.

    Ubuntu's package of that name only points at a snap, so playwright's own build is next.
    """
    names = ["chromium", "chromium-browser"]
    if machine.find(*names) is None:
        say("Getting Chromium from Debian's package (once) ...")
    try:
        found = debian.ensure_program(machine, "chromium", names, "usr/lib/chromium/chromium")
    except SetupProblem as problem:
        found, reason = "", str(problem)
    else:
        reason = f"{found} does not start"
    if found and starts(machine, found):
        return found
    (machine.tools / "bin/chromium").unlink(missing_ok=True)
    with_libraries = ["--with-deps"] if machine.is_root else []
    machine.run([str(python), "-m", "playwright", "install", *with_libraries, "chromium"])
    asked = machine.run([str(python), "-c", PLAYWRIGHT_CHROMIUM])
    built = Path(asked.stdout.strip() or "/nonexistent")
    if asked.returncode == 0 and built.exists() and starts(machine, str(built)):
        return str(debian.write_launcher(machine, "chromium", built))
    raise SetupProblem(reason)


PLAYWRIGHT_CHROMIUM = (
    "from playwright.sync_api import sync_playwright\n"
    "with sync_playwright() as p: print(p.chromium.executable_path)"
)


def starts(machine: Machine, program: str) -> bool:
    """Return whether a browser runs at all here: an unpacked one may lack a library."""
    return machine.run([program, "--version"]).returncode == 0


def test_environment(machine: Machine) -> dict[str, str]:
    """Return the environment of the tests: our tools, no TIDEGATE_ variable from outside."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TIDEGATE_") and name not in {"PORT", "DEMO", "MAKELEVEL"}
    }
    kept["PATH"] = os.pathsep.join(
        [str(ROOT / ".venv/bin"), str(machine.tools / "bin"), machine.search_path]
    )
    return kept


def our_machine() -> Machine:
    """Return this machine, with tools under this checkout's state directory."""
    return debian.this_machine(open_state_dir(ROOT / ".tidegate"))


def say(text: str) -> None:
    """Print one line to whoever ran the command."""
    print(text, flush=True)


COMMANDS = {
    "up": up,
    "test": run_tests,
    "soak": run_soak,
    "check": run_checks,
    "bench": run_benchmarks,
    "clean": clean,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
