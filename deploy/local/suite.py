"""What `make test` and `make soak` run: the suite's parts, side by side where they can be.

Standard library only, as all that runs before anything is installed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

SLOWEST = "--durations=25"
NO_PROCESSES = "not scenario and not browser and not soak"


@dataclass(frozen=True, slots=True)
class Part:
    """One run of pytest: its name and its arguments."""

    name: str
    arguments: tuple[str, ...]


UNIT = Part("unit", ("-n", "auto", "--maxprocesses", "8", "-m", NO_PROCESSES))
POSTGRESQL = Part(
    "postgresql",
    ("-n", "auto", "--maxprocesses", "4", "--database=postgresql", "-m", NO_PROCESSES),
)
# Where such tests are, since collecting all the others takes as long as running some of these.
WITH_REAL_PARTS = ("tests/envoy", "tests/scenarios", "tests/telemetry")
WITH_STACK = ("tests/browser", "tests/scenarios")
WITH_SOAK = ("tests/soak", "tests/survival")
REAL_PARTS = Part("real parts", ("-m", "scenario and not stack and not soak", *WITH_REAL_PARTS))
STACK = Part("stack", ("-m", "stack and not soak", *WITH_STACK))
STACK_WITHOUT_BROWSER = Part("stack", ("-m", "stack and not browser and not soak", *WITH_STACK))
SOAK = Part("soak", ("-m", "soak", "-rs", *WITH_SOAK))


@dataclass(slots=True)
class Running:
    """A part that runs, and where its output goes; None where it goes to the terminal."""

    part: Part
    process: subprocess.Popen[bytes]
    output: Path | None
    began_s: float

    def finish(self, say: Callable[[str], None]) -> int:
        """Wait for its end, show its output if that was kept, and return its exit code."""
        if self.output is not None and self.process.poll() is None:
            say(f"Waiting for the part `{self.part.name}`; its output follows ...")
        code = self.process.wait()
        if self.output is not None:
            say(f"\n== {self.part.name}")
            sys.stdout.write(self.output.read_text(errors="replace"))
            sys.stdout.flush()
        say(f"== {self.part.name}: exit {code} after {time.monotonic() - self.began_s:.0f} s\n")
        return code


@dataclass(frozen=True, slots=True)
class Suite:
    """Where the suite runs, and with what."""

    root: Path
    python: Path
    environment: Mapping[str, str]
    say: Callable[[str], None]

    def run(self, in_turn: Sequence[Part], beside: Sequence[Part] = ()) -> int:
        """Run some parts one after the other and others beside them; return the first failure.

        What runs beside writes to a file under .tidegate, which is shown when it has ended: two
        progress lines at once help nobody. However this ends, nothing of it goes on.
        """
        with ExitStack() as cleanups:
            others = [self._start(part, cleanups, is_shown=False) for part in beside]
            codes = [
                self._start(part, cleanups, is_shown=True).finish(self.say) for part in in_turn
            ]
            codes += [running.finish(self.say) for running in others]
        return next((code for code in codes if code), 0)

    def _start(self, part: Part, cleanups: ExitStack, *, is_shown: bool) -> Running:
        output: BinaryIO | None = None
        path: Path | None = None
        if is_shown:
            self.say(f"== {part.name}")
        else:
            folder = self.root / ".tidegate" / "test-output"
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{part.name.replace(' ', '-')}.txt"
            output = cleanups.enter_context(path.open("wb"))
            self.say(f"== {part.name} runs beside; its output so far: {path}")
        process = subprocess.Popen(
            [str(self.python), "-m", "pytest", SLOWEST, *part.arguments],
            cwd=self.root, env=dict(self.environment), stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT if output else None,
        )  # fmt: skip
        cleanups.callback(_end, process)
        return Running(part, process, path, time.monotonic())


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
