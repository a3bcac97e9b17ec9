"""The virtual environment of the checkout: made once, refreshed when the pins change."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

from deploy.local import debian
from deploy.local.debian import Machine
from deploy.local.problems import SetupProblem

PINS = {
    "runtime": ("requirements.txt", "sdk/pyproject.toml"),
    "tests": ("requirements-dev.txt", "requirements.txt", "sdk/pyproject.toml"),
}
REQUIREMENTS = {"runtime": "requirements.txt", "tests": "requirements-dev.txt"}


def ensure_environment(root: Path, machine: Machine, kind: str, say: Callable[[str], None]) -> Path:
    """Return the Python of `.venv` with everything that `kind` (runtime or tests) needs.

    Raises:
        SetupProblem: the environment or its packages can't be had; the text says what would help.
    """
    python = ensure_venv(root, machine, say)
    stamp = root / ".venv" / f"tidegate-{kind}.stamp"
    wanted = fingerprint(root, kind)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    say(f"Installing Python packages from {REQUIREMENTS[kind]} (once; a minute at most) ...")
    done = machine.run(
        [
            str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--no-input", "-r", REQUIREMENTS[kind],
        ],
        cwd=root,
    )  # fmt: skip
    if done.returncode != 0:
        tail = "\n".join(done.stderr.splitlines()[-15:])
        raise SetupProblem(
            f"{tail}\npip could not install {REQUIREMENTS[kind]} (its words are above). It needs "
            "the package index, or PIP_INDEX_URL set to a mirror of it."
        )
    stamp.write_text(wanted)
    if kind == "tests":
        (root / ".venv/tidegate-runtime.stamp").write_text(fingerprint(root, "runtime"))
    return python


def fingerprint(root: Path, kind: str) -> str:
    """Return a digest of the pins of `kind`, and of the Python they are installed for."""
    digest = hashlib.sha256(sys.version.encode())
    for name in PINS[kind]:
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def ensure_venv(root: Path, machine: Machine, say: Callable[[str], None]) -> Path:
    """Return the Python of `.venv`, which has pip; make it first, or again if it is broken.

    Raises:
        SetupProblem: Debian's venv module is not complete and can't be completed from here.
    """
    folder = root / ".venv"
    python = folder / "bin/python"
    if python.exists() and machine.run([str(python), "-m", "pip", "--version"]).returncode == 0:
        return python
    say("Making the virtual environment .venv ...")
    made = machine.run([sys.executable, "-m", "venv", "--clear", str(folder)])
    if made.returncode == 0:
        return python
    package = f"python3.{sys.version_info.minor}-venv"
    line = f"apt-get install -y {package}"
    if machine.is_root and machine.find("apt-get"):
        say(f"Python's venv module is not complete; running {line} ...")
        problem = debian.install(machine, package)
        made = machine.run([sys.executable, "-m", "venv", "--clear", str(folder)])
        if made.returncode == 0:
            return python
        raise SetupProblem(f"The virtual environment can't be made ({problem}). Run: {line}")
    problem = _borrow_pip(machine, folder, python)
    if problem:
        raise SetupProblem(
            f"The virtual environment can't be made: Python's venv module lacks pip ({problem}). "
            f"Get it with: sudo {line}"
        )
    return python


def _borrow_pip(machine: Machine, folder: Path, python: Path) -> str:
    """Make the environment without ensurepip, and put Debian's pip wheel into it.

    Returns what went wrong, empty when nothing did.
    """
    made = machine.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)])
    if made.returncode != 0:
        return debian.last_line(made)
    problem = debian.unpack(machine, "python3-pip-whl")
    wheels = sorted((machine.tools / "usr/share/python-wheels").glob("pip-*.whl"))
    if not wheels:
        return problem or "its package has no pip wheel"
    installed = machine.run(
        [str(python), f"{wheels[-1]}/pip", "install", "--quiet", "--no-index", str(wheels[-1])]
    )
    return "" if installed.returncode == 0 else debian.last_line(installed)
