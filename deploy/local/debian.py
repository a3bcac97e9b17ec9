"""Programs from Debian packages: installed as root, else unpacked under the state directory.

Standard library only. Nothing here starts a service or touches one that runs.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.problems import SetupProblem

POLICY_FILE = Path("/usr/sbin/policy-rc.d")
INSTALLED = Path("/var/lib/dpkg/status")
APT_SECONDS = 900


@dataclass(frozen=True)
class Machine:
    """Where things are on this machine; tests give one of their own."""

    search_path: str
    is_root: bool
    tools: Path
    policy_file: Path = POLICY_FILE

    def find(self, *names: str) -> str | None:
        """Return the first of `names` that is on the search path or among our own tools."""
        path = os.pathsep.join([self.search_path, str(self.tools / "bin")])
        for name in names:
            found = shutil.which(name, path=path)
            if found is not None:
                return found
        return None

    def run(
        self, argv: Sequence[str], *, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, quietly, with this machine's search path."""
        environment = {
            **os.environ,
            "PATH": self.search_path,
            "DEBIAN_FRONTEND": "noninteractive",
            "LC_ALL": "C.UTF-8",
        }
        program = shutil.which(argv[0], path=self.search_path) or argv[0]
        try:
            return subprocess.run(
                [program, *argv[1:]],
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=APT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as problem:
            return subprocess.CompletedProcess(argv, 1, "", str(problem))


def this_machine(state_dir: Path) -> Machine:
    """Return the machine this runs on."""
    return Machine(
        search_path=os.environ.get("PATH", os.defpath),
        is_root=os.geteuid() == 0,
        tools=state_dir / "tools",
    )


def ensure_program(machine: Machine, package: str, names: Sequence[str], binary: str) -> str:
    """Return the path of a program, getting its Debian package if it is not there yet.

    Args:
        machine: where to look and install.
        package: the Debian package that holds it.
        names: what the program may be called on the search path.
        binary: its path inside the package, for when it is unpacked rather than installed.

    Raises:
        SetupProblem: it can't be had here; the text has the one line that gets it.
    """
    found = machine.find(*names)
    if found is not None:
        return found
    line = f"apt-get install -y --no-install-recommends {package}"
    if machine.find("apt-get") is None:
        raise SetupProblem(
            f"{names[0]} is not on PATH and this is not a Debian or Ubuntu. "
            f"Install {names[0]} and put it on PATH."
        )
    if machine.is_root:
        problem = install(machine, package)
        found = machine.find(*names)
        if found is None:
            raise SetupProblem(f"{names[0]} could not be installed ({problem}). Run: {line}")
        return found
    problem = unpack(machine, package)
    program = machine.tools / binary
    if not program.exists():
        raise SetupProblem(f"{names[0]} is missing ({problem}). Get it with: sudo {line}")
    return str(write_launcher(machine, names[0], program))


def install(machine: Machine, package: str) -> str:
    """Install a package as root without starting its service; return what went wrong, if so."""
    with services_held_back(machine.policy_file):
        machine.run(["apt-get", "update", "-q"])
        done = machine.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", package])
    if done.returncode == 0 and Path("/run/systemd/system").is_dir():
        # Installed for this checkout only: it must not take its default port at the next boot.
        machine.run(["systemctl", "disable", package])
    return "" if done.returncode == 0 else last_line(done)


@contextlib.contextmanager
def services_held_back(policy_file: Path) -> Iterator[None]:
    """Keep packages installed inside the block from starting their services.

    Debian's tools ask /usr/sbin/policy-rc.d first; 101 means "not allowed". One that is already
    there belongs to somebody, and is left alone.
    """
    try:
        with policy_file.open("x") as file:
            file.write("#!/bin/sh\nexit 101\n")
        policy_file.chmod(0o755)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        policy_file.unlink(missing_ok=True)


def unpack(machine: Machine, package: str) -> str:
    """Unpack a package, and what it needs that is not installed, under the tools directory.

    Uses lists and a cache of its own, so neither root nor root's package lists are needed.
    Returns what went wrong, empty when nothing did.
    """
    work = machine.tools / "apt"
    try:
        return _unpack(machine, package, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _unpack(machine: Machine, package: str, work: Path) -> str:
    for folder in ("lists/partial", "cache/archives/partial", "debs"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    options = [
        "-o", f"Dir::State={work}", "-o", f"Dir::State::lists={work / 'lists'}",
        "-o", f"Dir::Cache={work / 'cache'}", "-o", f"Dir::State::status={INSTALLED}",
        "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=",
    ]  # fmt: skip
    machine.run(["apt-get", *options, "update", "-q"])
    simulated = machine.run(
        ["apt-get", *options, "install", "-s", "--no-install-recommends", package]
    )
    if simulated.returncode != 0:
        return last_line(simulated)
    # None means that the package is installed, though its program is not on our search path.
    packages = packages_to_install(simulated.stdout) or [package]
    fetched = machine.run(["apt-get", *options, "download", *packages], cwd=work / "debs")
    archives = sorted((work / "debs").glob("*.deb"))
    if fetched.returncode != 0 or not archives:
        return last_line(fetched)
    for archive in archives:
        done = machine.run(["dpkg", "-x", str(archive), str(machine.tools)])
        if done.returncode != 0:
            return last_line(done)
        archive.unlink()
    return ""


def packages_to_install(simulation: str) -> list[str]:
    """Return the packages that `apt-get -s install` would install, in its order."""
    return re.findall(r"^Inst (\S+) \(", simulation, flags=re.MULTILINE)


def write_launcher(machine: Machine, name: str, program: Path) -> Path:
    """Write `tools/bin/<name>`, which runs an unpacked program with the libraries beside it."""
    libraries = sorted((machine.tools / "usr/lib").glob("*-linux-gnu*"))
    libraries += sorted((machine.tools / "lib").glob("*-linux-gnu*"))
    library_path = ":".join(str(folder) for folder in libraries)
    launcher = machine.tools / "bin" / name
    launcher.parent.mkdir(parents=True, exist_ok=True)
    launcher.write_text(
        "#!/bin/sh\n"
        f"LD_LIBRARY_PATH={shlex.quote(library_path)}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\n"
        "export LD_LIBRARY_PATH\n"
        f'exec {shlex.quote(str(program))} "$@"\n'
    )
    launcher.chmod(0o755)
    return launcher


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the line that says why a command failed, for use inside a sentence."""
    lines = [line for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E:")] or lines
    return errors[0].strip().rstrip(".") if errors else f"exit code {done.returncode}"
