"""Keeps processes running until told to stop: restarts with backoff, held processes, one loop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from deploy.local.children import Child, ProcessSpec, prepare_log, stop_in_stages
from deploy.local.state import trim_log, write_private

STOP_S = 14.0
TRIM_EVERY_S = 10.0


class Supervisor:
    """A set of child processes and what to do when one ends.

    A file `held/<name>` in the state directory keeps that process stopped while it exists: that is
    how tests, and the curious, take a part away and give it back.
    """

    def __init__(self, state_dir: Path, say: Callable[[str], None]) -> None:
        self.state_dir = state_dir
        self.say = say
        self.children: dict[str, Child] = {}
        self._held: set[str] = set()
        self._trimmed_at_s = time.monotonic()

    def start(self, spec: ProcessSpec) -> Child:
        """Start one process and keep it running from now on."""
        child = Child(spec, prepare_log(self.state_dir / "logs", spec.name))
        self.children[spec.name] = child
        child.start(time.monotonic())
        self.write_process_table()
        return child

    def drop(self, name: str) -> None:
        """Stop one process at once and forget it."""
        child = self.children.pop(name)
        stop_in_stages([child], time.monotonic())
        self.write_process_table()

    def tick(self) -> None:
        """Reap what ended, restart what is due, stop and release what is held."""
        now_s = time.monotonic()
        changed = self._apply_holds()
        for child in self.children.values():
            if child.reap(now_s):
                changed = True
                if child.spec.name not in self._held:
                    self.say(self._describe_end(child, now_s))
            is_due = child.pid is None and now_s >= child.restart_at_s
            if is_due and child.spec.name not in self._held:
                child.restarts += 1
                child.start(now_s)
                changed = True
        if changed:
            self.write_process_table()
        if now_s - self._trimmed_at_s > TRIM_EVERY_S:
            self._trimmed_at_s = now_s
            for child in self.children.values():
                trim_log(child.log_path)

    def stop(self) -> None:
        """Stop everything in order: load, services, work, web, servers."""
        stop_in_stages(list(self.children.values()), time.monotonic() + STOP_S)
        (self.state_dir / "processes.json").unlink(missing_ok=True)

    def write_process_table(self) -> None:
        """Write the name, process id and restarts of every child to `processes.json`."""
        table = {
            child.spec.name: {"pid": child.pid, "restarts": child.restarts}
            for child in self.children.values()
        }
        write_private(self.state_dir / "processes.json", json.dumps(table, indent=1))

    def _apply_holds(self) -> bool:
        wanted = {
            path.name for path in (self.state_dir / "held").iterdir() if path.name in self.children
        }
        if wanted == self._held:
            return False
        for name in wanted - self._held:
            self.say(f"{name} is held: stopped until {self.state_dir / 'held' / name} is removed")
            self.children[name].kill_group()
        for name in self._held - wanted:
            self.say(f"{name} is released")
            self.children[name].restart_at_s = 0.0
        self._held = wanted
        return True

    def _describe_end(self, child: Child, now_s: float) -> str:
        wait_s = max(0.0, child.restart_at_s - now_s)
        return (
            f"{child.spec.name} {child.last_exit}; starting it again in {wait_s:.1f} s "
            f"(log: {child.log_path})"
        )
